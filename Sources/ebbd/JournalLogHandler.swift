import CEbbSystem
import EbbProtocol
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
            .map { (key: $0.key, value: "\($0.value)".printable) }
        let fields = all.filter { $0.key.hasPrefix("EBB_") }
        let rest = all.filter { !$0.key.hasPrefix("EBB_") }.map { " \($0.key)=\($0.value)" }.joined()
        let message = "\(event.message)".printable
        let entry =
            ["MESSAGE=\(message)\(rest)", "PRIORITY=\(Self.priority(event.level))", "SYSLOG_IDENTIFIER=ebbd"]
            + fields.map { "\($0.key)=\($0.value)" }
        if Self.send(entry) { return }
        let pairs = fields.map { " \($0.key)=\($0.value)" }.joined()
        StandardErrorLogHandler.write("<\(Self.priority(event.level))>\(message)\(rest)\(pairs)")
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

/// Lines for a person: the time, the level, the message, and the metadata after it. What others have named or written is
/// written out where it holds controls.
struct StandardErrorLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, new in new }.sorted { $0.key < $1.key }
        let pairs = all.map { " \($0.key)=\($0.value)" }.joined()
        Self.write("\(Self.time()) \(event.level) ebbd: " + "\(event.message)\(pairs)".printable)
    }

    /// A line in one piece, so that those of several threads do not mix.
    static func write(_ line: String) {
        (line + "\n").utf8CString.withUnsafeBytes { _ = Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count - 1) }
    }

    private static func time() -> String {
        var now = time_t()
        Glibc.time(&now)
        var parts = tm()
        localtime_r(&now, &parts)
        var text = [CChar](repeating: 0, count: 32)
        let count = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S%z", &parts)
        return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
