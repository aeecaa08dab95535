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
        run(0..<rows, a, b, c, block: block, source)
    }

    /// The same where rows have weights of their own: all weights have inputs of one width, and the rows of each product
    /// follow those of the product before it.
    func run(
        _ products: UnsafeMutableBufferPointer<Product>, block: Int = 32,
        _ source: (Range<Int>) -> UnsafeMutablePointer<Float>
    ) {
        guard products.allSatisfy(\.hasOneOrder) else { return runApart(products, block: block, source) }
        var (blocks, tiles) = (0, 0)
        for index in products.indices { products[index].prepare(hasPairs, &blocks, &tiles) }
        guard let first = products.first, let last = products.last else { return }
        let k = Int(first.a.weight.pointee.mapped.k)
        // The buffer was shaped for the largest use when the step was admitted, so this cannot fail for memory.
        try? activations.shape(rows: last.rows.upperBound, k: k, block: block)
        pool.run(items: blocks, grain: 1) { range, _ in
            for product in products { pack(product, product.blocks(in: range), k, source) }
        }
        if let probe { show(products, to: probe, source(0..<0), k) }
        let mostRows = products.reduce(0) { max($0, $1.rows.count) }
        pool.run(items: tiles, grain: grain(tiles: tiles, rows: mostRows)) { range, thread in
            for product in products { multiply(product, range, thread) }
        }
    }

    /// Packs the input for each order anew; its rows are computed once.
    private func runApart(
        _ products: UnsafeMutableBufferPointer<Product>, block: Int,
        _ source: (Range<Int>) -> UnsafeMutablePointer<Float>
    ) {
        let computed = source(0..<0)
        for product in products {
            run(product.rows, product.a, nil, nil, block: block, source)
            if let b = product.b { run(product.rows, b, product.c, nil, block: block) { _ in computed } }
        }
    }

    private func run(
        _ rows: Range<Int>, _ a: Projection, _ b: Projection?, _ c: Projection?, block: Int,
        _ source: (Range<Int>) -> UnsafeMutablePointer<Float>
    ) {
        var product = Product(rows: rows, a, b, c)
        withUnsafeMutablePointer(to: &product) {
            run(UnsafeMutableBufferPointer(start: $0, count: 1), block: block, source)
        }
    }

    private func show(
        _ products: UnsafeMutableBufferPointer<Product>, to probe: any ActivationProbe,
        _ input: UnsafeMutablePointer<Float>, _ k: Int
    ) {
        for product in products {
            probe.input(
                input + product.rows.lowerBound * k, count: product.rows.count, k: k,
                of: [product.a, product.b, product.c].compactMap { $0?.weight })
        }
    }

    private var hasPairs: Bool { kernels.pointee.matmul_bf16 != nil }

    private func pack(
        _ product: Product, _ blocks: Range<Int>, _ k: Int, _ source: (Range<Int>) -> UnsafeMutablePointer<Float>
    ) {
        guard !blocks.isEmpty else { return }
        let (base, forms) = (product.rows.lowerBound, product.forms)
        var view = activations.part(product.rows)
        for block in blocks {
            let (first, count) = (block * 8, min(8, product.rows.count - block * 8))
            var from = source(base + first..<base + first + count)
            if let order = forms.order, let gathered = activations.gathered {
                order.gather(from, base + first..<base + first + count, k: k, into: gathered)
                from = gathered
            }
            from += base * k
            if let fixed = forms.fixed {
                kernels.pointee.quantize_static(from, k, UInt32(first), UInt32(count), fixed.multipliers, &view)
            } else if forms.integers {
                kernels.pointee.quantize(from, k, UInt32(first), UInt32(count), &view)
            }
            if forms.floats { kernels.pointee.pack(from, k, UInt32(first), UInt32(count), &view) }
            if forms.pairs { kernels.pointee.pack_bf16?(from, k, UInt32(first), UInt32(count), &view) }
        }
    }

    /// Tiles that a thread takes at a time: small enough that a thread that is held up leaves work to the others and all
    /// end together, large enough to cost nothing. Even, since kernels take two tiles at a time; each tile's result is its
    /// own, so it does not depend on how many threads there are.
    private func grain(tiles: Int, rows: Int) -> Int {
        // Two tiles by many rows take some microseconds, far more than a claim.
        rows > 32 ? 2 : max(2, min(32, tiles / (pool.active * 4)) & ~1)
    }

    private func multiply(_ product: Product, _ range: Range<Int>, _ thread: Int) {
        guard range.overlaps(product.tiles) else { return }
        var start = product.tiles.lowerBound
        multiply(product.a, product.rows, range, &start, thread)
        if let b = product.b { multiply(b, product.rows, range, &start, thread) }
        if let c = product.c { multiply(c, product.rows, range, &start, thread) }
    }

    /// The part of `range` that lies in a matrix whose tiles are numbered from `start`, which becomes their end.
    private func multiply(
        _ projection: Projection, _ rows: Range<Int>, _ range: Range<Int>, _ start: inout Int, _ thread: Int
    ) {
        let weight = projection.weight
        let tiles = range.clamped(to: start..<start + weight.pointee.tiles)
        defer { start += weight.pointee.tiles }
        guard !tiles.isEmpty else { return }
        var view = activations.part(rows)
        let (from, to) = (UInt32(tiles.lowerBound - start), UInt32(tiles.upperBound - start))
        let outputs = weight.pointee.outputs
        let out = projection.out + rows.lowerBound * outputs
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

/// Rows of an input, and up to three weights that read them. Plain data, so that the token loop counts no references.
struct Product {
    let rows: Range<Int>
    let a: Projection
    let b, c: Projection?

    /// What the rows are packed as, their row blocks' place among those of all products, and that of the weights' tiles.
    fileprivate private(set) var forms = Forms()
    private var firstBlock = 0
    fileprivate private(set) var tiles = 0..<0

    init(rows: Range<Int>, _ a: Projection, _ b: Projection? = nil, _ c: Projection? = nil) {
        (self.rows, self.a, self.b, self.c) = (rows, a, b, c)
    }

    /// Whether its weights have their columns in the same order.
    fileprivate var hasOneOrder: Bool {
        let order = a.weight.pointee.order
        return (b == nil || b?.weight.pointee.order == order) && (c == nil || c?.weight.pointee.order == order)
    }

    /// - Parameters:
    ///   - blocks: row blocks of the products before it; with its own after the call.
    ///   - tiles: the same.
    fileprivate mutating func prepare(_ hasPairs: Bool, _ blocks: inout Int, _ tiles: inout Int) {
        forms = Forms(order: a.weight.pointee.order)
        forms.add(a.weight, hasPairs)
        if let b { forms.add(b.weight, hasPairs) }
        if let c { forms.add(c.weight, hasPairs) }
        firstBlock = blocks
        blocks += (rows.count + 7) / 8
        let count = a.weight.pointee.tiles + (b?.weight.pointee.tiles ?? 0) + (c?.weight.pointee.tiles ?? 0)
        self.tiles = tiles..<tiles + count
        tiles += count
    }

    /// Its row blocks, numbered from 0, that lie in a range of those of all products.
    fileprivate func blocks(in range: Range<Int>) -> Range<Int> {
        let mine = range.clamped(to: firstBlock..<firstBlock + (rows.count + 7) / 8)
        return mine.lowerBound - firstBlock..<mine.upperBound - firstBlock
    }
}

/// What the weights of an input read it as.
private struct Forms {
    /// That of all their columns.
    var order: InputOrder?
    var (integers, floats, pairs) = (false, false, false)
    var fixed: FixedInput?

    init(order: InputOrder? = nil) { self.order = order }

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
