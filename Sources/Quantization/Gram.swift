import CKernels

/// Second moments of a weight's inputs: H = Σ x xᵀ over the rows x of the calibration texts, [k][k]. Twice that is the
/// Hessian of the layer's squared output error (Frantar et al. 2023, section 3.1).
public final class GramMatrix {
    public let k: Int
    public private(set) var rows = 0
    /// [k][k], symmetric.
    public private(set) var values: [Float]
    private let kernels: UnsafePointer<ebb_kernels>

    /// Rows that one product takes.
    private static let chunk = 256

    public init(k: Int, kernels: UnsafePointer<ebb_kernels> = ebb_kernels_best()) {
        self.k = k
        self.kernels = kernels
        values = Array(repeating: 0, count: k * k)
    }

    /// Adds rows [count][k]. H is a matrix product: the rows' transpose is both the weight and the activations.
    public func add(_ x: UnsafePointer<Float>, count: Int) {
        for first in stride(from: 0, to: count, by: Self.chunk) {
            addChunk(x + first * k, count: min(Self.chunk, count - first))
        }
        rows += count
    }

    private func addChunk(_ x: UnsafePointer<Float>, count: Int) {
        let tiles = (k + 15) / 16
        let padded = tiles * 16
        // Weights [tile][row][16]; activations [block of 8][row][8].
        let weights = UnsafeMutablePointer<Float>.allocate(capacity: padded * count)
        let packed = UnsafeMutablePointer<Float>.allocate(capacity: k * count)
        let product = UnsafeMutablePointer<Float>.allocate(capacity: k * k)
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: EBB_SCRATCH_BYTES, alignment: 64)
        defer {
            weights.deallocate()
            packed.deallocate()
            product.deallocate()
            scratch.deallocate()
        }
        for tile in 0..<tiles {
            for row in 0..<count {
                let out = weights + (tile * count + row) * 16
                for c in 0..<16 { out[c] = tile * 16 + c < k ? x[row * k + tile * 16 + c] : 0 }
            }
        }
        for first in stride(from: 0, to: k, by: 8) {
            let r = min(8, k - first)
            let out = packed + first * count
            for row in 0..<count { for j in 0..<r { out[row * r + j] = x[row * k + first + j] } }
        }
        var matrix = Encoding.f32.matrix(data: UnsafeRawPointer(weights), n: k, k: count)
        var a = ebb_activations()
        (a.rows, a.k, a.kp) = (UInt32(k), UInt32(count), UInt32((count + 31) / 32 * 32))
        a.f = packed
        kernels.pointee.matmul_f(&matrix, &a, 0, UInt32(tiles), product, k, scratch)
        values.withUnsafeMutableBufferPointer { values in
            guard let base = values.baseAddress else { return }
            for i in 0..<k { kernels.pointee.axpy(base + i * k, product + i * k, 1, UInt32(k)) }
        }
    }

    /// The diagonal, as weights of a scale search; inputs that are always zero get a trace of the mean.
    public var diagonal: [Float] {
        let raw = (0..<k).map { values[$0 * k + $0] }
        let mean = raw.reduce(0, +) / Float(max(k, 1))
        return raw.map { max($0, mean * 1e-4) + .leastNormalMagnitude }
    }
}
