/// XXH64 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), fed in pieces.
public struct Checksum {
    private static let p1: UInt64 = 0x9E37_79B1_85EB_CA87
    private static let p2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    private static let p3: UInt64 = 0x1656_67B1_9E37_79F9
    private static let p4: UInt64 = 0x85EB_CA77_C2B2_AE63
    private static let p5: UInt64 = 0x27D4_EB2F_1656_67C5

    private var lanes: (UInt64, UInt64, UInt64, UInt64)
    private var pending: [UInt8] = []
    private var length: UInt64 = 0

    public init() {
        lanes = (Self.p1 &+ Self.p2, Self.p2, 0, 0 &- Self.p1)
        pending.reserveCapacity(32)
    }

    /// The checksum of some bytes.
    public static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var sum = Checksum()
        sum.update(bytes)
        return sum.value
    }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        length &+= UInt64(bytes.count)
        var rest = bytes[...]
        if !pending.isEmpty {
            let take = min(32 - pending.count, rest.count)
            pending.append(contentsOf: rest.prefix(take))
            rest = rest.dropFirst(take)
            guard pending.count == 32 else { return }
            pending.withUnsafeBytes { stripe($0, 0) }
            pending.removeAll(keepingCapacity: true)
        }
        let whole = UnsafeRawBufferPointer(rebasing: rest)
        var at = 0
        while at + 32 <= whole.count {
            stripe(whole, at)
            at += 32
        }
        pending.append(contentsOf: whole[at...])
    }

    private mutating func stripe(_ b: UnsafeRawBufferPointer, _ at: Int) {
        func word(_ i: Int) -> UInt64 {
            UInt64(littleEndian: b.loadUnaligned(fromByteOffset: at + i * 8, as: UInt64.self))
        }
        lanes.0 = Self.round(lanes.0, word(0))
        lanes.1 = Self.round(lanes.1, word(1))
        lanes.2 = Self.round(lanes.2, word(2))
        lanes.3 = Self.round(lanes.3, word(3))
    }

    private static func round(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        rotate(lane &+ word &* p2, 31) &* p1
    }

    private static func rotate(_ x: UInt64, _ by: UInt64) -> UInt64 { x << by | x >> (64 - by) }

    public var value: UInt64 {
        var h: UInt64
        if length >= 32 {
            h =
                Self.rotate(lanes.0, 1) &+ Self.rotate(lanes.1, 7) &+ Self.rotate(lanes.2, 12)
                &+ Self.rotate(lanes.3, 18)
            for lane in [lanes.0, lanes.1, lanes.2, lanes.3] { h = (h ^ Self.round(0, lane)) &* Self.p1 &+ Self.p4 }
        } else {
            h = Self.p5
        }
        h = h &+ length
        pending.withUnsafeBytes { rest in
            var at = 0
            while at + 8 <= rest.count {
                let word = UInt64(littleEndian: rest.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                h = Self.rotate(h ^ Self.round(0, word), 27) &* Self.p1 &+ Self.p4
                at += 8
            }
            if at + 4 <= rest.count {
                let word = UInt64(UInt32(littleEndian: rest.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
                h = Self.rotate(h ^ word &* Self.p1, 23) &* Self.p2 &+ Self.p3
                at += 4
            }
            while at < rest.count {
                h = Self.rotate(h ^ UInt64(rest[at]) &* Self.p5, 11) &* Self.p1
                at += 1
            }
        }
        h = (h ^ h >> 33) &* Self.p2
        h = (h ^ h >> 29) &* Self.p3
        return h ^ h >> 32
    }
}
