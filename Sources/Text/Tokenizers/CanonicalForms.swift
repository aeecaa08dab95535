import Foundation

/// Unicode's canonical forms NFD and NFC (UAX #15) in time that grows with n log n: Foundation's take n² for a run of
/// combining marks, so it is asked for single characters and pairs only.
struct CanonicalForms {
    /// What Foundation has said, of a bounded number of characters and pairs. An empty array: the character itself.
    private var decompositions: [UInt32: [Unicode.Scalar]] = [:]
    private var compatibles: [UInt32: [Unicode.Scalar]] = [:]
    private var compositions: [UInt64: Unicode.Scalar?] = [:]
    private static let memoLimit = 4096

    // MARK: NFC of a part of a text

    /// The part in form NFC; nil where it is in that form already.
    static func composed(
        _ bytes: [UInt8], _ range: Range<Int>, _ meter: inout WorkMeter
    ) throws(CancellationError) -> [UInt8]? {
        var forms = CanonicalForms()
        var out: [UInt8] = []
        var copied = range.lowerBound
        var at = range.lowerBound
        var before = at
        while at < range.upperBound {
            let plain = plainEnd(bytes, at, range.upperBound)
            if plain > at {
                try meter.add(plain - at)
                (before, at) = (plain - 1, plain)
                continue
            }
            let (scalar, next) = UTF8Text.scalar(bytes, at)
            try meter.add(1)
            if isComposed(scalar.value) {
                (before, at) = (at, next)
                continue
            }
            // What follows may join the character before it, up to one that joins nothing.
            let begin = max(before, copied)
            var run: [Unicode.Scalar] = []
            at = begin
            while at < range.upperBound {
                let (scalar, next) = UTF8Text.scalar(bytes, at)
                if at > begin, isComposed(scalar.value) { break }
                run.append(scalar)
                at = next
            }
            out += bytes[copied..<begin]
            for scalar in try forms.composed(run, &meter) { UTF8Text.append(scalar, to: &out) }
            (copied, before) = (at, at)
        }
        guard copied > range.lowerBound else { return nil }
        return out + bytes[copied..<range.upperBound]
    }

    /// Where the ASCII characters from `at` on end.
    @inline(__always)
    private static func plainEnd(_ bytes: [UInt8], _ at: Int, _ end: Int) -> Int {
        var at = at
        // A few KB at most, so that the work is counted on the way.
        let stop = min(end, at + WorkMeter.interval)
        while at < stop, bytes[at] < 0x80 { at += 1 }
        return at
    }

    /// Whether a character stands for itself in NFC and never joins the one before it. Not all that do are listed: those of
    /// most text are.
    static func isComposed(_ value: UInt32) -> Bool {
        switch value {
        case 0..<0x300, 0x388...0x482, 0x48a...0x556, 0x5d0...0x5ea, 0x620...0x64a, 0x660...0x66f, 0x671...0x6d5,
            0x904...0x939, 0x93d...0x94c, 0xe01...0xe37, 0xe3f...0xe47, 0x10a0...0x10ff, 0x1e00...0x1eff,
            0x2010...0x205f, 0x20a0...0x20bf, 0x2190...0x2328, 0x2400...0x2adb, 0x3000...0x3029, 0x3041...0x3096,
            0x309b...0x30ff, 0x3400...0x9fff, 0xac00...0xd7a3, 0xfe30...0xffee, 0x1f000...0x1faff:
            true
        default: false
        }
    }

    /// Every character composed where it can be.
    mutating func composed(
        _ run: [Unicode.Scalar], _ meter: inout WorkMeter
    ) throws(CancellationError) -> [Unicode.Scalar] {
        var out: [Unicode.Scalar] = []
        var starter: Int?
        var lastClass: UInt8 = 0
        for scalar in try decomposed(run, &meter) {
            try meter.add(1)
            let own = scalar.properties.canonicalCombiningClass.rawValue
            // A mark joins the starter unless one of its class, or a higher one, stands between them.
            if let starter, lastClass == 0 || lastClass < own, let joined = composition(out[starter], scalar) {
                out[starter] = joined
                continue
            }
            if own == 0 { starter = out.count }
            lastClass = own
            out.append(scalar)
        }
        return out
    }

    private mutating func composition(_ a: Unicode.Scalar, _ b: Unicode.Scalar) -> Unicode.Scalar? {
        if b.value < 0x300 { return nil }
        if (0x1161...0x11c2).contains(b.value) { return Self.hangul(a.value, b.value) }
        let key = UInt64(a.value) << 32 | UInt64(b.value)
        if let known = compositions[key] { return known }
        var pair = String.UnicodeScalarView()
        pair.append(contentsOf: [a, b])
        // Decomposed first: of U+0CCA and U+0CD5, already composed in part, Foundation does not make U+0CCB.
        let joined = String(pair).decomposedStringWithCanonicalMapping.precomposedStringWithCanonicalMapping
            .unicodeScalars
        let found = joined.count == 1 ? joined.first : nil
        if compositions.count < Self.memoLimit { compositions[key] = .some(found) }
        return found
    }

    /// A syllable of a leading consonant and a vowel, or of such a one and a trailing consonant (The Unicode Standard, 3.12).
    private static func hangul(_ a: UInt32, _ b: UInt32) -> Unicode.Scalar? {
        if (0x1100...0x1112).contains(a), b <= 0x1175 {
            return Unicode.Scalar(0xac00 + ((a - 0x1100) * 21 + b - 0x1161) * 28)
        }
        guard (0xac00...0xd7a3).contains(a), (a - 0xac00) % 28 == 0, b >= 0x11a8 else { return nil }
        return Unicode.Scalar(a + b - 0x11a7)
    }

    // MARK: NFKD and NFKC

    /// Every character as those that it is compatible with, decomposed.
    mutating func decomposedCompatible(
        _ scalars: [Unicode.Scalar], _ meter: inout WorkMeter
    ) throws(CancellationError) -> [Unicode.Scalar] {
        if scalars.allSatisfy(\.isASCII) { return scalars }
        var out: [Unicode.Scalar] = []
        out.reserveCapacity(scalars.count)
        for scalar in scalars {
            try meter.add(1)
            appendCompatible(scalar, to: &out)
        }
        return try decomposed(out, &meter)
    }

    mutating func composedCompatible(
        _ scalars: [Unicode.Scalar], _ meter: inout WorkMeter
    ) throws(CancellationError) -> [Unicode.Scalar] {
        if scalars.allSatisfy(\.isASCII) { return scalars }
        return try composed(try decomposedCompatible(scalars, &meter), &meter)
    }

    private mutating func appendCompatible(_ scalar: Unicode.Scalar, to out: inout [Unicode.Scalar]) {
        switch scalar.value {
        case 0..<0xa0, 0x4e00...0x9fff, 0xac00...0xd7a3: return out.append(scalar)
        default: break
        }
        var parts = compatibles[scalar.value]
        if parts == nil {
            let found = Array(String(scalar).decomposedStringWithCompatibilityMapping.unicodeScalars)
            parts = found == [scalar] ? [] : found
            if compatibles.count < Self.memoLimit { compatibles[scalar.value] = parts }
        }
        if let parts, !parts.isEmpty { out += parts } else { out.append(scalar) }
    }

    // MARK: NFD

    /// Every character decomposed, marks in the order of their classes.
    mutating func decomposed(
        _ scalars: [Unicode.Scalar], _ meter: inout WorkMeter
    ) throws(CancellationError) -> [Unicode.Scalar] {
        var out: [Unicode.Scalar] = []
        out.reserveCapacity(scalars.count)
        for scalar in scalars {
            try meter.add(1)
            append(scalar, to: &out)
        }
        try Self.order(&out, &meter)
        return out
    }

    private mutating func append(_ scalar: Unicode.Scalar, to out: inout [Unicode.Scalar]) {
        switch scalar.value {
        case 0..<0xc0, 0x3400...0x9fff: return out.append(scalar)
        case 0xac00...0xd7a3: return Self.appendHangul(scalar.value - 0xac00, to: &out)
        default: break
        }
        var parts = decompositions[scalar.value]
        if parts == nil {
            let found = Array(String(scalar).decomposedStringWithCanonicalMapping.unicodeScalars)
            parts = found == [scalar] ? [] : found
            if decompositions.count < Self.memoLimit { decompositions[scalar.value] = parts }
        }
        if let parts, !parts.isEmpty { out += parts } else { out.append(scalar) }
    }

    /// A Hangul syllable is computed (The Unicode Standard, 3.12).
    private static func appendHangul(_ index: UInt32, to out: inout [Unicode.Scalar]) {
        for value in [0x1100 + index / 588, 0x1161 + index % 588 / 28, 0x11a7 + index % 28] where value != 0x11a7 {
            if let jamo = Unicode.Scalar(value) { out.append(jamo) }
        }
    }

    /// Sorts each run of marks by class; marks of one class keep their order.
    private static func order(
        _ scalars: inout [Unicode.Scalar], _ meter: inout WorkMeter
    ) throws(CancellationError) {
        var at = 0
        while at < scalars.count {
            let start = at
            var isOrdered = true
            var last: UInt8 = 0
            while at < scalars.count {
                let own = scalars[at].value < 0x300 ? 0 : scalars[at].properties.canonicalCombiningClass.rawValue
                if own == 0 { break }
                if own < last { isOrdered = false }
                last = own
                at += 1
            }
            if !isOrdered { try sort(&scalars, start..<at, &meter) }
            at += 1
        }
    }

    private static func sort(
        _ scalars: inout [Unicode.Scalar], _ range: Range<Int>, _ meter: inout WorkMeter
    ) throws(CancellationError) {
        try meter.add(range.count)
        var classes: [[Unicode.Scalar]] = Array(repeating: [], count: 256)
        for scalar in scalars[range] {
            classes[Int(scalar.properties.canonicalCombiningClass.rawValue)].append(scalar)
        }
        scalars.replaceSubrange(range, with: classes.joined())
    }
}
