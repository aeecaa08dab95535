/// Watches a text for stop texts, and holds back what may be the beginning of one.
struct StopFilter {
    private let stops: [[UInt8]]
    private var held: [UInt8] = []
    private var stopped = false

    init(_ stops: [String]) { self.stops = stops.map { Array($0.utf8) }.filter { !$0.isEmpty } }

    /// The text that can be given out, and whether a stop text has come; nothing is given out after one.
    mutating func append(_ text: String) -> (text: String, stopped: Bool) {
        if stopped { return ("", true) }
        if stops.isEmpty { return (text, false) }
        held += text.utf8
        for start in held.indices {
            if stops.contains(where: { held[start...].starts(with: $0) }) {
                stopped = true
                defer { held = [] }
                return (String(decoding: held[..<start], as: UTF8.self), true)
            }
            // The rest could become a stop text: it waits.
            if stops.contains(where: { $0.starts(with: held[start...]) }) {
                defer { held.removeFirst(start) }
                return (String(decoding: held[..<start], as: UTF8.self), false)
            }
        }
        defer { held = [] }
        return (String(decoding: held, as: UTF8.self), false)
    }

    /// What was held back, when the text ends.
    mutating func finish(_ text: String) -> String {
        if stopped { return "" }
        let (last, _) = append(text)
        defer { held = [] }
        return last + String(decoding: held, as: UTF8.self)
    }
}
