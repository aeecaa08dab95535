import CKernels

/// GPTQ (Frantar et al. 2023): columns are quantized in order, and each one's error is compensated by the columns that
/// follow, as the inverse of the inputs' second moments says.
///
/// @unchecked Sendable: immutable.
public final class GPTQ: @unchecked Sendable {
    private let quantizer: BlockQuantizer
    private let k: Int
    /// The upper Cholesky factor of H⁻¹, [k][k].
    private let factor: UnsafeMutablePointer<Float>
    private let diagonal: [Float]
    private let kernels: UnsafePointer<ebb_kernels>

    /// Added to H's diagonal, as a share of its mean (the paper's 1 %).
    private static let damping: Float = 0.01

    /// - Throws: ``SchemeError`` where the inputs' second moments are not finite.
    public init(
        scheme: Scheme, gram: GramMatrix, damping: Float = GPTQ.defaultDamping,
        kernels: UnsafePointer<ebb_kernels> = ebb_kernels_best()
    ) throws {
        quantizer = BlockQuantizer(scheme: scheme, method: .gptq, kernels: kernels)
        k = gram.k
        self.kernels = kernels
        diagonal = gram.diagonal
        factor = .allocate(capacity: k * k)
        var share = damping
        // A nearly singular H needs more than the usual damping in single precision.
        for _ in 0..<6 {
            if Self.factorize(gram, damping: share, into: factor, kernels) { return }
            share *= 10
        }
        throw SchemeError("the calibration inputs are not finite, or all zero")
    }

    public static var defaultDamping: Float { damping }

    deinit { factor.deallocate() }

    /// H + damping = R Rᵀ with R upper triangular; then H⁻¹ = (R⁻¹)ᵀ R⁻¹, and R⁻¹ is the factor.
    private static func factorize(
        _ gram: GramMatrix, damping: Float, into u: UnsafeMutablePointer<Float>, _ kernels: UnsafePointer<ebb_kernels>
    ) -> Bool {
        let k = gram.k
        let h = UnsafeMutablePointer<Float>.allocate(capacity: k * k)
        let column = UnsafeMutablePointer<Float>.allocate(capacity: k)
        defer {
            h.deallocate()
            column.deallocate()
        }
        gram.values.withUnsafeBufferPointer { values in
            if let base = values.baseAddress { h.update(from: base, count: k * k) }
        }
        var mean: Float = 0
        for i in 0..<k { mean += h[i * k + i] / Float(k) }
        guard mean.isFinite, mean > 0 else { return false }
        for i in 0..<k { h[i * k + i] += mean * damping }
        // Columns from the last; the lower triangle of what is left is updated.
        for j in stride(from: k - 1, through: 0, by: -1) {
            let pivot = h[j * k + j]
            guard pivot.isFinite, pivot > 0 else { return false }
            let root = pivot.squareRoot()
            for i in 0..<j { column[i] = h[j * k + i] / root }
            for i in 0..<j { kernels.pointee.axpy(h + i * k, column, -column[i], UInt32(i + 1)) }
            // R's column j replaces H's: above the diagonal, which is not read again.
            for i in 0..<j { h[i * k + j] = column[i] }
            h[j * k + j] = root
        }
        for i in stride(from: k - 1, through: 0, by: -1) {
            let row = u + i * k
            for m in 0..<k { row[m] = 0 }
            for p in i + 1..<max(k, i + 1) {
                kernels.pointee.axpy(row + p, u + p * k + p, h[i * k + p], UInt32(k - p))
            }
            let inverse = 1 / h[i * k + i]
            for m in i + 1..<max(k, i + 1) { row[m] *= -inverse }
            row[i] = inverse
        }
        return true
    }

    /// Quantizes a channel of k values; `row` is changed.
    /// - Throws: ``SchemeError`` where a scale is too large for its storage.
    public func encode(_ row: UnsafeMutablePointer<Float>, into code: ChannelCode) throws {
        code.clear()
        let length = quantizer.blockLength(k: k)
        try diagonal.withUnsafeBufferPointer { diagonal in
            guard let weights = diagonal.baseAddress else { return }
            var fit = BlockQuantizer.Fit(scale: 0, offset: 0, error: 0)
            for j in 0..<k {
                if j % length == 0 {
                    // The scale is chosen for the weights as earlier errors have changed them.
                    fit = try quantizer.fit(row + j, weights: weights + j, count: min(length, k - j))
                    quantizer.store(fit, block: j / length, in: code)
                }
                let level = quantizer.level(row[j], fit)
                code.quants[j] = UInt8(level)
                let error = (row[j] - (fit.scale * level + fit.offset)) / factor[j * k + j]
                if j + 1 < k {
                    kernels.pointee.axpy(row + j + 1, factor + j * k + j + 1, -error, UInt32(k - j - 1))
                }
            }
        }
    }
}
