/// The scalars that no set of a pattern tells apart, as numbered classes: what an automaton reads in place of scalars.
struct ScalarClasses {
    private(set) var count = 0
    /// For each class, which of the sets it lies in.
    private(set) var members: [[Bool]] = []
    /// The classes of the scalars, in pages of 256; pages that are one class are shared.
    private(set) var pages: [UInt8] = []
    /// Where each page lies in `pages`, in units of 256.
    private(set) var pageIndex: [UInt16] = []

    static let limit = 200

    init(_ sets: [ScalarSet]) throws(TextError) {
        var changes: [(at: UInt32, set: Int)] = []
        for (set, scalars) in sets.enumerated() {
            for range in scalars.ranges {
                changes.append((range.lowerBound, set))
                changes.append((range.upperBound + 1, set))
            }
        }
        changes.sort { $0.at < $1.at }
        var numbers: [[Bool]: UInt8] = [:]
        var current = [Bool](repeating: false, count: sets.count)
        var segments: [(start: UInt32, kind: UInt8)] = []
        var next = 0
        var start: UInt32 = 0
        while true {
            while next < changes.count, changes[next].at == start {
                current[changes[next].set].toggle()
                next += 1
            }
            if numbers[current] == nil {
                guard numbers.count < Self.limit else {
                    throw TextError("a pattern of the tokenizer tells too many kinds of characters apart")
                }
                numbers[current] = UInt8(numbers.count)
                members.append(current)
            }
            segments.append((start, numbers[current] ?? 0))
            guard next < changes.count, changes[next].at <= ScalarSet.lastScalar else { break }
            start = changes[next].at
        }
        count = members.count
        fill(segments)
    }

    private mutating func fill(_ segments: [(start: UInt32, kind: UInt8)]) {
        var uniform: [UInt8: UInt16] = [:]
        var segment = 0
        for page in 0...Int(ScalarSet.lastScalar >> 8) {
            let first = UInt32(page) << 8
            while segment + 1 < segments.count, segments[segment + 1].start <= first { segment += 1 }
            let isUniform = segment + 1 == segments.count || segments[segment + 1].start > first + 255
            if isUniform, let known = uniform[segments[segment].kind] {
                pageIndex.append(known)
                continue
            }
            let index = UInt16(pages.count / 256)
            pageIndex.append(index)
            if isUniform { uniform[segments[segment].kind] = index }
            var at = segment
            for scalar in first...first + 255 {
                while at + 1 < segments.count, segments[at + 1].start <= scalar { at += 1 }
                pages.append(segments[at].kind)
            }
        }
    }
}
