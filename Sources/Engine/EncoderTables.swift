import CKernels
import Glibc

/// What an encoder's steps look up and never change: rotations by position, biases by distance, zeros.
final class EncoderTables {
    private let memory: AnonymousMemory
    let zeros: VectorRef
    /// [context][angles] each.
    private let cosines, sines: UnsafeMutablePointer<Float>
    /// [heads][2 * context - 1]: by the distance from a query to a key, which is 0 in the middle.
    private let biases: UnsafeMutablePointer<Float>?
    private let angles: Int
    private let half: Int
    private let context: Int

    var region: MemoryRegion { memory.region }

    init(_ family: any EncoderFamily) throws {
        let config = family.config
        let rotations = config.rotaries.isEmpty ? nil : Rotations(config.rotaries)
        (angles, half, context) = (rotations?.angles ?? 0, config.headDim / 2, config.contextLength)
        let width = config.denses.reduce(max(config.hidden, config.feedForward)) { max($0, $1.outputs) } + 16
        let distances = 2 * context - 1
        let biasCount = family.relativeBias == nil ? 0 : config.heads * distances
        memory = try AnonymousMemory(byteCount: (width + 2 * context * angles + biasCount) * 4)
        let base = memory.base.assumingMemoryBound(to: Float.self)
        zeros = VectorRef(base)
        (cosines, sines) = (base + width, base + width + context * angles)
        biases = family.relativeBias == nil ? nil : base + width + 2 * context * angles
        rotations?.fill(0..<context, cosines: cosines, sines: sines) { $0 }
        if let bias = family.relativeBias, let biases {
            Self.fill(biases, bias, heads: config.heads, context: context)
        }
    }

    /// The cosines and sines of a rotary embedding at a position, [head_dim / 2] each.
    func angles(_ rotary: Int, at position: Int) -> (VectorRef, VectorRef) {
        let start = position * angles + rotary * half
        return (VectorRef(cosines + start), VectorRef(sines + start))
    }

    /// What a head adds to scores, by the key's distance from the query, at distance 0; nil for nothing.
    func relativeBias(head: Int) -> VectorRef? {
        biases.map { VectorRef($0 + head * (2 * context - 1) + context - 1) }
    }

    private static func fill(
        _ out: UnsafeMutablePointer<Float>, _ bias: LinearRef, heads: Int, context: Int
    ) {
        let buckets = RelativeBuckets(count: bias.pointee.outputs)
        var row = [Float](repeating: 0, count: heads)
        for distance in 1 - context..<context {
            row.withUnsafeMutableBufferPointer { row in
                guard let base = row.baseAddress else { return }
                withUnsafePointer(to: bias.pointee.table) {
                    ebb_dequantize_channel($0, UInt32(buckets.bucket(distance)), base)
                }
                for head in 0..<heads { out[head * (2 * context - 1) + context - 1 + distance] = base[head] }
            }
        }
    }
}

/// Which distances share a bias (Raffel et al. 2020): one half of the buckets for keys after the query, the other for those
/// before it; each near distance has its own, farther ones share by their logarithm, up to 128 tokens.
struct RelativeBuckets {
    let count: Int
    private static let farthest = 128

    /// - Parameter distance: the key's position less the query's.
    func bucket(_ distance: Int) -> Int {
        let half = count / 2
        let start = distance > 0 ? half : 0
        let (far, near) = (abs(distance), half / 2)
        guard far >= near else { return start + far }
        // In floats, as the models were trained: where the logarithm is whole, rounding decides.
        let place = logf(Float(far) / Float(near)) / logf(Float(Self.farthest) / Float(near)) * Float(half - near)
        return start + min(near + Int(place), half - 1)
    }
}
