/// Lays channels into the tiled layout of docs/ebb-format.md.
public struct TileWriter {
    let scheme: Scheme
    let k: Int

    public init(scheme: Scheme, k: Int) {
        self.scheme = scheme
        self.k = k
    }

    /// Bytes of one tile.
    public var tileBytes: Int {
        let span = scheme.span(k: k)
        return (k + span - 1) / span * scheme.recordBytes(k: k)
    }

    /// Writes one channel as channel `lane` (0...15) of a tile whose bytes were zero before.
    public func write(_ code: ChannelCode, lane: Int, into tile: UnsafeMutableRawBufferPointer) {
        precondition(tile.count == tileBytes && (0..<16).contains(lane) && code.k == k && code.scheme == scheme)
        let span = scheme.span(k: k)
        let recordBytes = scheme.recordBytes(k: k)
        let blocksInRecord = span / scheme.blockLength(k: k)
        for r in 0..<code.records {
            let record = UnsafeMutableRawBufferPointer(rebasing: tile[r * recordBytes..<(r + 1) * recordBytes])
            let scalesAt = writePlanes(code, from: r * span, count: span, lane: lane, record)
            writeScales(code, record: r, blocks: blocksInRecord, lane: lane, at: scalesAt, record)
        }
    }

    /// Returns where the planes end.
    private func writePlanes(
        _ code: ChannelCode, from start: Int, count span: Int, lane: Int, _ record: UnsafeMutableRawBufferPointer
    ) -> Int {
        var at = 0
        var taken = 0  // bits of q that earlier planes hold
        for width in [8, 4, 2, 1] where scheme.bits == width || (scheme.bits < 8 && scheme.bits & width != 0) {
            let groupsInLine = 8 / width
            let mask = UInt8((1 << width) - 1)
            code.quants.withUnsafeBufferPointer { quants in
                for i in 0..<span {
                    let group = i >> 2
                    let byte = at + group / groupsInLine * 64 + lane * 4 + (i & 3)
                    let value = (quants[start + i] >> UInt8(taken)) & mask
                    record[byte] |= value << UInt8(width * (group % groupsInLine))
                }
            }
            at += span * 2 * width
            taken += width
        }
        return at
    }

    private func writeScales(
        _ code: ChannelCode, record r: Int, blocks: Int, lane: Int, at start: Int,
        _ record: UnsafeMutableRawBufferPointer
    ) {
        for b in 0..<blocks {
            let block = r * blocks + b
            let index = b * 16 + lane
            switch scheme.scale {
            case .f16:
                record.storeBytes(
                    of: UInt16(truncatingIfNeeded: code.scales[block]), toByteOffset: start + index * 2, as: UInt16.self
                )
                if scheme.asymmetric {
                    let offset = UInt16(truncatingIfNeeded: code.offsets[block])
                    record.storeBytes(of: offset, toByteOffset: start + blocks * 32 + index * 2, as: UInt16.self)
                }
            case .f32:
                record.storeBytes(of: code.scales[block], toByteOffset: start + index * 4, as: UInt32.self)
                if scheme.asymmetric {
                    record.storeBytes(
                        of: code.offsets[block], toByteOffset: start + blocks * 64 + index * 4, as: UInt32.self)
                }
            case .e8m0: record[start + index] = UInt8(truncatingIfNeeded: code.scales[block])
            case .twoLevel:
                record[start + index] = code.subScales[block]
                if scheme.asymmetric { record[start + blocks * 16 + index] = code.subMins[block] }
            case .twoLevelPacked:
                record[start + index] = code.subScales[block]
            }
        }
        guard scheme.scale.hasTwoLevels else { return }
        let bytesBefore = scheme.scale == .twoLevel && scheme.asymmetric ? blocks * 32 : blocks * 16
        let supers = start + bytesBefore
        record.storeBytes(of: code.superScales[r], toByteOffset: supers + lane * 2, as: UInt16.self)
        if scheme.asymmetric {
            record.storeBytes(of: code.superMins[r], toByteOffset: supers + 32 + lane * 2, as: UInt16.self)
        }
    }
}
