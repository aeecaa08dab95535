import CKernels

/// How scales and offsets are chosen.
public enum QuantizationMethod: String, Sendable, Codable, CaseIterable {
    /// The block's smallest and largest value become the smallest and largest level.
    case minmax
    /// The range that minimizes the squared error: a search, then least squares.
    case mse
    /// Half-quadratic minimization of an lp norm, p < 1, of the error (Badri & Shaji 2023).
    case hqq
    /// Errors are compensated by the weights that follow, by the inputs' second moments (Frantar et al. 2023).
    case gptq
}

/// Quantizes channels, block by block.
///
/// @unchecked Sendable: the table of kernels is constant.
public struct BlockQuantizer: @unchecked Sendable {
    public let scheme: Scheme
    public let method: QuantizationMethod
    private let kernels: UnsafePointer<ebb_kernels>

    /// Half-quadratic constants of the reference implementation (https://github.com/mobiusml/hqq, `optimize_weights_proximal`):
    /// p 0.7, beta 10 growing by 1.01 each step, at most 20 steps. Ebb counts the error in units of the scale, so that
    /// they mean the same for every block.
    private static let (norm, firstBeta, betaGrowth, halfQuadraticSteps): (Float, Float, Float, Int) = (
        0.7, 10, 1.01, 20
    )
    /// Ranges that the search tries, as shares of the full one; and steps of least squares from the best of them.
    private static let shares: [Float] = (0..<24).map { 1 - Float($0) * 0.03 }
    private static let leastSquaresSteps = 6

    /// - Parameter method: `gptq` chooses its scales as `mse` does; see ``GPTQ``.
    public init(scheme: Scheme, method: QuantizationMethod, kernels: UnsafePointer<ebb_kernels> = ebb_kernels_best()) {
        self.scheme = scheme
        self.method = method
        self.kernels = kernels
    }

    /// A scale and an offset as they are stored: w' = scale * q + offset, q in 0...2^bits - 1. Symmetric blocks have
    /// offset = -scale * 2^(bits - 1).
    public struct Fit: Sendable {
        public var scale: Float
        public var offset: Float
        /// Σ h (w - w')².
        public var error: Float
    }

    /// Values per block of a channel of k values.
    public func blockLength(k: Int) -> Int { scheme.blockLength(k: k) }

    /// Quantizes a channel of `code.k` finite values; `h` weighs them, or is nil.
    /// - Throws: ``SchemeError`` where a scale is too large for its storage.
    public func encode(_ row: UnsafePointer<Float>, weights h: UnsafePointer<Float>? = nil, into code: ChannelCode)
        throws
    {
        code.clear()
        let length = blockLength(k: code.k)
        for (block, start) in stride(from: 0, to: code.k, by: length).enumerated() {
            let count = min(length, code.k - start)
            let fit = try fit(row + start, weights: h.map { $0 + start }, count: count)
            store(fit, block: block, in: code)
            code.quants.withUnsafeMutableBufferPointer { quants in
                guard let base = quants.baseAddress else { return }
                kernels.pointee.encode(row + start, UInt32(count), fit.scale, fit.offset, top, base + start)
            }
        }
    }

    var top: UInt32 { UInt32(1 << scheme.bits) - 1 }

    /// The level of one value.
    func level(_ w: Float, _ fit: Fit) -> Float {
        guard fit.scale != 0 else { return 0 }
        return min(max(((w - fit.offset) * (1 / fit.scale)).rounded(.toNearestOrEven), 0), Float(top))
    }

    func store(_ fit: Fit, block: Int, in code: ChannelCode) {
        func bits(_ value: Float) -> UInt32 {
            scheme.scale == .f32 ? value.bitPattern : UInt32(ebb_f32_to_f16(value))
        }
        code.scales[block] = bits(fit.scale)
        // A symmetric block's offset follows from its scale, and is not stored.
        if scheme.asymmetric { code.offsets[block] = bits(fit.offset) }
    }

    /// Chooses scale and offset of a block of finite values.
    /// - Throws: ``SchemeError`` where they are too large for their storage.
    public func fit(_ w: UnsafePointer<Float>, weights h: UnsafePointer<Float>? = nil, count: Int) throws -> Fit {
        var low: Float = 0
        var high: Float = 0
        kernels.pointee.range(w, UInt32(count), &low, &high)
        guard scheme.scale == .f32 || max(abs(low), abs(high)) < 65_000 else {
            throw SchemeError("weights up to \(max(abs(low), abs(high))) need scales of 32 bits (--scale-bits 32)")
        }
        let block = Block(w: w, h: h, count: count, low: low, high: high)
        switch method {
        case .minmax: return start(block, share: 1)
        case .mse, .gptq: return searched(block)
        case .hqq: return halfQuadratic(block)
        }
    }

    private struct Block {
        let w: UnsafePointer<Float>
        let h: UnsafePointer<Float>?
        let count: Int
        let low, high: Float
    }

    // MARK: Candidates

    /// As it is stored.
    private func rounded(_ scale: Float, _ offset: Float) -> Fit {
        let stored = scheme.scale == .f32 ? scale : ebb_f16_to_f32(ebb_f32_to_f16(scale))
        guard scheme.asymmetric else {
            return Fit(scale: stored, offset: -stored * Float(1 << (scheme.bits - 1)), error: .infinity)
        }
        let storedOffset = scheme.scale == .f32 ? offset : ebb_f16_to_f32(ebb_f32_to_f16(offset))
        return Fit(scale: stored, offset: storedOffset, error: .infinity)
    }

    /// The levels spread over a share of the range. Symmetric: the value of largest magnitude lies on level 0, whose
    /// magnitude is largest (the sign goes into the scale). Asymmetric: where the range contains zero, zero is a level
    /// (Jacob et al. 2018, section 2.1), which at few bits is worth more than half a step of range.
    private func start(_ block: Block, share: Float) -> Fit {
        if scheme.asymmetric {
            let scale = (block.high - block.low) * share / Float(top)
            guard scale > 0, block.low < 0, block.high > 0 else { return rounded(scale, block.low * share) }
            let zeroPoint = min(max((-block.low * share / scale).rounded(), 0), Float(top))
            return rounded(scale, -rounded(scale, 0).scale * zeroPoint)
        }
        let extreme = abs(block.low) >= abs(block.high) ? block.low : block.high
        return rounded(extreme * share / -Float(1 << (scheme.bits - 1)), 0)
    }

    private func sums(_ block: Block, _ fit: Fit, beta: Float = 0) -> ebb_block_sums {
        var sums = ebb_block_sums()
        let shrinkage = ebb_shrinkage(beta: beta, p: Self.norm)
        kernels.pointee.block_sums(
            block.w, block.h, UInt32(block.count), fit.scale, fit.offset, top, shrinkage, &sums)
        return sums
    }

    /// The best of several shares of the range, then least squares.
    private func searched(_ block: Block) -> Fit {
        var best = start(block, share: 1)
        best.error = sums(block, best).error
        for share in Self.shares.dropFirst() {
            var candidate = start(block, share: share)
            candidate.error = sums(block, candidate).error
            if candidate.error < best.error { best = candidate }
        }
        return refined(block, best)
    }

    /// Alternates between levels and the least-squares scale and offset for them, while the error falls.
    private func refined(_ block: Block, _ from: Fit) -> Fit {
        var best = from
        var current = from
        for _ in 0..<Self.leastSquaresSteps {
            guard let next = leastSquares(sums(block, current)) else { break }
            current = next
            current.error = sums(block, current).error
            guard current.error < best.error else { break }
            best = current
        }
        return best
    }

    /// The scale and offset that fit the targets best for given levels; nil where there is no single answer.
    private func leastSquares(_ s: ebb_block_sums) -> Fit? {
        guard scheme.asymmetric else {
            // t ≈ scale * (q - zero).
            let zero = Float(1 << (scheme.bits - 1))
            let square = s.qq - 2 * zero * s.q + zero * zero * s.h
            return square > 0 ? rounded((s.tq - zero * s.t) / square, 0) : nil
        }
        let variance = s.qq * s.h - s.q * s.q
        guard s.h > 0, variance > 0 else { return nil }
        let scale = (s.tq * s.h - s.t * s.q) / variance
        return rounded(scale, (s.t - scale * s.q) / s.h)
    }

    /// Half-quadratic steps on the zero point, then on scale and zero point together. What is kept is the step of least
    /// squared error, so that it is never worse than the search.
    private func halfQuadratic(_ block: Block) -> Fit {
        var best = searched(block)
        for joint in [false, true] {
            var current = best
            var beta = Self.firstBeta
            var stalled = 0
            for _ in 0..<Self.halfQuadraticSteps where stalled < 3 {
                // The shrinkage in units of the scale s: |e / s|^(p-1) s / beta = |e|^(p-1) / (beta s^(p-2)).
                let size = abs(current.scale)
                guard size > 0 else { break }
                let s = sums(block, current, beta: beta * Self.power(size, Self.norm - 2))
                guard let next = joint || !scheme.asymmetric ? leastSquares(s) : shifted(s, scale: current.scale)
                else { break }
                current = next
                current.error = sums(block, current).error
                stalled = current.error < best.error ? 0 : stalled + 1
                if current.error < best.error { best = current }
                beta *= Self.betaGrowth
            }
        }
        return refined(block, best)
    }

    /// The offset that fits the targets best for given levels and scale.
    private func shifted(_ s: ebb_block_sums, scale: Float) -> Fit? {
        s.h > 0 ? rounded(scale, (s.t - scale * s.q) / s.h) : nil
    }

    private static func power(_ base: Float, _ exponent: Float) -> Float { ebb_powf(base, exponent) }
}
