/// Finds a text in others, byte by byte, in time that grows with their length (Knuth, Morris, Pratt 1977).
package struct TextSearch: Sendable {
    package let needle: [UInt8]
    /// For each place: how long the longest prefix is that ends there, short of all.
    private let borders: [Int32]

    package init(_ text: String) { self.init(Array(text.utf8)) }

    init(_ needle: [UInt8]) {
        self.needle = needle
        var borders = [Int32](repeating: 0, count: needle.count)
        var length = 0
        for at in needle.indices.dropFirst() {
            while length > 0, needle[at] != needle[length] { length = Int(borders[length - 1]) }
            if needle[at] == needle[length] { length += 1 }
            borders[at] = Int32(clamping: length)
        }
        self.borders = borders
    }

    /// Where the needle stands last.
    static func last(_ needle: String, in hay: [UInt8]) -> Range<Int>? {
        let found = TextSearch(Array(needle.utf8.reversed())).first(in: hay.reversed())
        return found.map { hay.count - $0.upperBound..<hay.count - $0.lowerBound }
    }

    /// Where the needle first stands at or behind `start`; nil for an empty needle.
    func first(in hay: [UInt8], from start: Int = 0) -> Range<Int>? {
        guard !needle.isEmpty else { return nil }
        var matched = 0
        for at in start..<max(start, hay.count) {
            matched = self.matched(matched, then: hay[at])
            if matched == needle.count { return at + 1 - matched..<at + 1 }
        }
        return nil
    }

    /// How much of the needle a text ends with once a byte follows one that ended with `count` bytes of it, but not all.
    package func matched(_ count: Int, then byte: UInt8) -> Int {
        var count = count
        while count > 0, byte != needle[count] { count = Int(borders[count - 1]) }
        return byte == needle[count] ? count + 1 : count
    }
}
