import CKernels

/// Hears what calibration wants to know of a running model.
package protocol ActivationProbe: AnyObject {
    /// The input rows [count][k] of a product with some weights, before they are quantized.
    func input(_ rows: UnsafePointer<Float>, count: Int, k: Int, of weights: [LinearRef])
    /// Queries (scaled), keys and values of an encoder's attention in a layer: `count` rows, `stride` from row to row.
    func attention(
        layer: Int, query: UnsafePointer<Float>, key: UnsafePointer<Float>, value: UnsafePointer<Float>, count: Int,
        stride: Int)
}

/// The matrix products of a step: packs the rows of an input once for all weights that read it, then fans the tiles of
/// those weights out over the threads.
///
/// Used by the engine thread alone.
final class MatrixProducts {
    private let kernels: UnsafePointer<ebb_kernels>
    private let pool: WorkerPool
    private let activations: ActivationBuffer
    /// Set while a model is calibrated.
    var probe: (any ActivationProbe)?

    /// - Parameters:
    ///   - isSteady: a row has the same products, bit by bit, alone and with others.
    ///   - gathers: whether some weight's columns have an order of their own.
    init(kernels: Kernels, pool: WorkerPool, isSteady: Bool = false, gathers: Bool = false) {
        self.kernels = kernels.table
        self.pool = pool
        activations = ActivationBuffer(isSteady: isSteady, gathers: gathers)
    }

    /// Makes sure that ``run`` has memory for `rows` rows of at most `widest` values.
    func admit(rows: Int, widest: Int, block: Int) throws {
        try activations.shape(rows: max(rows, 1), k: widest, block: block)
    }

    /// Bytes of memory for packed rows.
    func byteCount(rows: Int, widest: Int, block: Int) -> Int {
        activations.byteCount(rows: rows, k: widest, block: block)
    }

    var regions: [MemoryRegion] { activations.regions }

    /// Lets go of the memory for packed rows; ``admit(rows:widest:block:)`` takes it again.
    func discard() { activations.discard() }

    /// out = input W^T for up to three weights that read the same input.
    /// - Parameters:
    ///   - block: values of the input that share a scale where it is quantized on the fly.
    ///   - source: computes rows of a row block and says where row 0 lies; rows follow each other without gaps.
    func run(
        rows: Int, _ a: Projection, _ b: Projection? = nil, _ c: Projection? = nil, block: Int = 32,
        _ source: (Range<Int>) -> UnsafeMutablePointer<Float>
    ) {
        guard haveOneOrder(a, b, c) else { return runApart(rows: rows, a, b, c, block: block, source) }
        var forms = Forms(order: a.weight.pointee.order)
        forms.add(a.weight, hasPairs)
        if let b { forms.add(b.weight, hasPairs) }
        if let c { forms.add(c.weight, hasPairs) }
        let k = Int(a.weight.pointee.mapped.k)
        pack(rows: rows, k: k, forms, block: block, source)
        if let probe { probe.input(source(0..<0), count: rows, k: k, of: [a, b, c].compactMap { $0?.weight }) }
        multiply(a, b, c)
    }

    /// Whether weights that read the same input have their columns in the same order.
    private func haveOneOrder(_ a: Projection, _ b: Projection?, _ c: Projection?) -> Bool {
        let order = a.weight.pointee.order
        return (b == nil || b?.weight.pointee.order == order) && (c == nil || c?.weight.pointee.order == order)
    }

    /// Packs the input for each order anew; its rows are computed once.
    private func runApart(
        rows: Int, _ a: Projection, _ b: Projection?, _ c: Projection?, block: Int,
        _ source: (Range<Int>) -> UnsafeMutablePointer<Float>
    ) {
        let computed = source(0..<0)
        run(rows: rows, a, block: block, source)
        if let b { run(rows: rows, b, c, block: block) { _ in computed } }
    }

    /// What the weights of an input read it as.
    private struct Forms {
        /// That of all their columns.
        let order: InputOrder?
        var (integers, floats, pairs) = (false, false, false)
        var fixed: FixedInput?

        init(order: InputOrder?) { self.order = order }

        mutating func add(_ weight: LinearRef, _ hasPairs: Bool) {
            if weight.pointee.readsIntegers {
                integers = true
                fixed = weight.pointee.fixedInput
            } else if hasPairs && weight.pointee.readsPairs {
                pairs = true
            } else {
                floats = true
            }
        }
    }

    private var hasPairs: Bool { kernels.pointee.matmul_bf16 != nil }

    private func pack(
        rows: Int, k: Int, _ forms: Forms, block: Int, _ source: (Range<Int>) -> UnsafeMutablePointer<Float>
    ) {
        // The buffer was shaped for the largest use when the step was admitted, so this cannot fail for memory.
        try? activations.shape(rows: rows, k: k, block: block)
        var view = activations.view
        let gathered = activations.gathered
        withUnsafeMutablePointer(to: &view) { view in
            let view = UnsafePointer(view)
            pool.run(items: (rows + 7) / 8, grain: 1) { range, _ in
                for block in range {
                    let first = block * 8
                    let count = min(8, rows - first)
                    var from = source(first..<first + count)
                    if let order = forms.order, let gathered {
                        order.gather(from, first..<first + count, k: k, into: gathered)
                        from = gathered
                    }
                    if let fixed = forms.fixed {
                        kernels.pointee.quantize_static(from, k, UInt32(first), UInt32(count), fixed.multipliers, view)
                    } else if forms.integers {
                        kernels.pointee.quantize(from, k, UInt32(first), UInt32(count), view)
                    }
                    if forms.floats { kernels.pointee.pack(from, k, UInt32(first), UInt32(count), view) }
                    if forms.pairs { kernels.pointee.pack_bf16?(from, k, UInt32(first), UInt32(count), view) }
                }
            }
        }
    }

    private func multiply(_ a: Projection, _ b: Projection?, _ c: Projection?) {
        let aEnd = a.weight.pointee.tiles
        let bEnd = aEnd + (b?.weight.pointee.tiles ?? 0)
        let end = bEnd + (c?.weight.pointee.tiles ?? 0)
        pool.run(items: end, grain: grain(tiles: end, rows: activations.view.rows)) { range, thread in
            self.multiply(a, range, 0, aEnd, thread)
            if let b { self.multiply(b, range, aEnd, bEnd, thread) }
            if let c { self.multiply(c, range, bEnd, end, thread) }
        }
    }

    /// Tiles that a thread takes at a time: small enough that a thread that is held up leaves work to the others and all
    /// end together, large enough to cost nothing. Even, since kernels take two tiles at a time; each tile's result is its
    /// own, so it does not depend on how many threads there are.
    private func grain(tiles: Int, rows: UInt32) -> Int {
        // Two tiles by many rows take some microseconds, far more than a claim.
        rows > 32 ? 2 : max(2, min(32, tiles / (pool.active * 4)) & ~1)
    }

    /// The part of `range` that lies in a matrix whose tiles are numbered from `start`.
    private func multiply(
        _ projection: Projection, _ range: Range<Int>, _ start: Int, _ end: Int, _ thread: Int
    ) {
        let (weight, out) = (projection.weight, projection.out)
        let first = max(range.lowerBound, start)
        let last = min(range.upperBound, end)
        guard first < last else { return }
        var view = activations.view
        let (from, to) = (UInt32(first - start), UInt32(last - start))
        let outputs = weight.pointee.outputs
        guard weight.pointee.readsIntegers else {
            var matrix = weight.pointee.expanded
            let kernel = weight.pointee.readsPairs ? kernels.pointee.matmul_bf16 : nil
            (kernel ?? kernels.pointee.matmul_f)?(&matrix, &view, from, to, out, outputs, pool.scratch(thread))
            return
        }
        var matrix = weight.pointee.mapped
        if let fixed = weight.pointee.fixedInput {
            kernels.pointee.matmul_s(&matrix, &view, fixed.scale, from, to, out, outputs)
        } else {
            kernels.pointee.matmul_q(&matrix, &view, from, to, out, outputs, pool.scratch(thread))
        }
    }
}
