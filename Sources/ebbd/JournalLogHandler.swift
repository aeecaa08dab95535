import CEbbSystem
import Glibc
import Logging

/// Entries for the journal by its own protocol (sd_journal_sendv(3)): the message, and metadata whose names begin with
/// `EBB_` as fields of their own; other metadata follows the message. Where the journal does not listen, lines as
/// sd-daemon(3) writes them.
struct JournalLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, new in new }.sorted { $0.key < $1.key }
        let fields = all.filter { $0.key.hasPrefix("EBB_") }
        let rest = all.filter { !$0.key.hasPrefix("EBB_") }.map { " \($0.key)=\($0.value)" }.joined()
        let entry =
            ["MESSAGE=\(event.message)\(rest)", "PRIORITY=\(Self.priority(event.level))", "SYSLOG_IDENTIFIER=ebbd"]
            + fields.map { "\($0.key)=\($0.value)" }
        if Self.send(entry) { return }
        let pairs = fields.map { " \($0.key)=\($0.value)" }.joined()
        let line = "<\(Self.priority(event.level))>\(event.message)\(rest)\(pairs)\n"
        line.utf8CString.withUnsafeBytes { _ = write(STDERR_FILENO, $0.baseAddress, $0.count - 1) }
    }

    private static func send(_ fields: [String]) -> Bool {
        let texts = fields.map { Array($0.utf8CString) }
        let lengths = texts.map { $0.count - 1 }
        // One buffer with all texts, so that their addresses hold while the journal reads them.
        let joined = texts.flatMap { $0 }
        return joined.withUnsafeBufferPointer { joined in
            guard let base = joined.baseAddress else { return false }
            var at = base
            let pointers: [UnsafePointer<CChar>?] = texts.map { text in
                defer { at += text.count }
                return at
            }
            return ebb_journal_send(pointers, lengths, Int32(texts.count)) == 0
        }
    }

    private static func priority(_ level: Logger.Level) -> Int {
        switch level {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
