/// A mark and what it does.
struct ChannelMark: Sendable {
    enum Action: Sendable {
        case beginThinking, endThinking, beginCall, endCall, completeCall, beginHeader, endHeader, drop, endStray
        case protect(Int)
        case unprotect
    }

    let search: TextSearch
    let action: Action
    /// Counts only as a control token.
    let onlyControl: Bool
    /// Line ends beside it belong to it.
    let takesLines: Bool

    init(_ text: String, _ action: Action, onlyControl: Bool = false) {
        search = TextSearch(text)
        self.action = action
        self.onlyControl = onlyControl
        switch action {
        case .beginThinking, .endThinking, .beginCall, .endCall, .drop, .endStray: takesLines = true
        default: takesLines = false
        }
    }

    var count: Int { search.needle.count }
}

/// Looks for several marks at once; what a byte costs does not depend on what came before it.
struct MarkFinder: Sendable {
    let marks: [ChannelMark]
    /// How much of each has been seen last.
    private var seen: [Int]
    private var isSeeing = false
    /// Bytes that marks begin with: most of a text is none of them.
    private let firsts: [Bool]

    init(_ marks: [ChannelMark]) {
        self.marks = marks.filter { $0.count > 0 }
        seen = Array(repeating: 0, count: self.marks.count)
        var firsts = [Bool](repeating: false, count: 256)
        for mark in self.marks { firsts[Int(mark.search.needle[0])] = true }
        self.firsts = firsts
    }

    /// The mark that is complete with this byte, of several the longest.
    mutating func step(_ byte: UInt8) -> ChannelMark? {
        guard isSeeing || firsts[Int(byte)] else { return nil }
        isSeeing = false
        var found: ChannelMark?
        for index in marks.indices {
            let mark = marks[index]
            let length = mark.search.matched(seen[index], then: byte)
            seen[index] = length == mark.count ? 0 : length
            if seen[index] > 0 { isSeeing = true }
            if length == mark.count, length > found?.count ?? 0 { found = mark }
        }
        return found
    }

    /// What may be the beginnings of marks: how long they are, and whether line ends before them belong to them.
    var beginnings: some Sequence<(count: Int, takesLines: Bool)> {
        zip(seen, marks).lazy.map { (count: $0, takesLines: $1.takesLines) }
    }
}
