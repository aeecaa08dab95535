/// A set of Unicode scalars as ranges in order, none of which touch.
struct ScalarSet: Hashable, Sendable {
    private(set) var ranges: [ClosedRange<UInt32>] = []

    static let lastScalar: UInt32 = 0x10ffff
    static let all = ScalarSet([0...lastScalar])

    init() {}

    /// Ranges in any order.
    init(_ ranges: [ClosedRange<UInt32>]) {
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = self.ranges.last, range.lowerBound <= last.upperBound + 1 {
                self.ranges[self.ranges.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                self.ranges.append(range)
            }
        }
    }

    init(_ scalars: some Sequence<Unicode.Scalar>) { self.init(scalars.map { $0.value...$0.value }) }

    var isEmpty: Bool { ranges.isEmpty }

    /// How many scalars there are.
    var count: Int { ranges.reduce(0) { $0 + $1.count } }

    func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }

    var inverted: ScalarSet {
        var gaps: [ClosedRange<UInt32>] = []
        var next: UInt32 = 0
        for range in ranges {
            if range.lowerBound > next { gaps.append(next...range.lowerBound - 1) }
            next = range.upperBound + 1
        }
        if next <= Self.lastScalar { gaps.append(next...Self.lastScalar) }
        return ScalarSet(gaps)
    }

    func intersection(_ other: ScalarSet) -> ScalarSet { inverted.union(other.inverted).inverted }

    func contains(_ scalar: Unicode.Scalar) -> Bool {
        var (low, high) = (0, ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound < scalar.value { low = middle + 1 } else { high = middle }
        }
        return low < ranges.count && ranges[low].lowerBound <= scalar.value
    }

    /// With the other cases of its scalars, one scalar for one.
    var withAllCases: ScalarSet {
        // Categories hold both cases or say which one they mean.
        guard count <= 4096 else { return self }
        if let last = ranges.last, last.upperBound < 0x80 { return withAllASCIICases }
        var found = ranges
        func add(_ text: String) {
            let scalars = text.unicodeScalars
            if scalars.count == 1, let scalar = scalars.first { found.append(scalar.value...scalar.value) }
        }
        for range in ranges {
            for value in range {
                guard let scalar = Unicode.Scalar(value) else { continue }
                let (upper, lower) = (scalar.properties.uppercaseMapping, scalar.properties.lowercaseMapping)
                add(upper)
                add(lower)
                // Letters that share a capital with this one: the long s and s, for one.
                for other in Self.sharingCapital[upper] ?? [] { found.append(other...other) }
                for other in Self.sharingSmall[lower] ?? [] { found.append(other...other) }
            }
        }
        return ScalarSet(found)
    }

    /// The same for ASCII, whose letters have two cases but for k and s.
    private var withAllASCIICases: ScalarSet {
        var found = ranges
        for value in ranges.joined() {
            let folded = value | 0x20
            guard (0x61...0x7a).contains(folded) else { continue }
            found += [folded...folded, folded - 0x20...folded - 0x20]
            // The sign of the kelvin and the long s.
            if folded == 0x6b { found.append(0x212a...0x212a) }
            if folded == 0x73 { found.append(0x17f...0x17f) }
        }
        return ScalarSet(found)
    }

    /// Scalars by the capital that they have in common where it is not their only small letter.
    private static let sharingCapital = letters { $0.properties.uppercaseMapping }
    private static let sharingSmall = letters { $0.properties.lowercaseMapping }

    private static func letters(_ key: (Unicode.Scalar) -> String) -> [String: [UInt32]] {
        var found: [String: [UInt32]] = [:]
        for range in UnicodeSets.category("L")?.ranges ?? [] where range.lowerBound < 0x1_ffff {
            for value in range {
                guard let scalar = Unicode.Scalar(value), scalar.properties.isCased else { continue }
                found[key(scalar), default: []].append(value)
            }
        }
        return found.filter { $1.count > 1 }
    }
}
