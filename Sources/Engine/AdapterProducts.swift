import CKernels
import ModelFormat

/// What adapters add to a step's products: out += strength * B (A x), for the rows of the requests that ask for it. Rows that follow
/// each other with the same adapter go together.
///
/// Used by the engine thread alone.
final class AdapterProducts {
    /// Rows with an adapter.
    private struct Group {
        var rows: Range<Int>
        let table: UnsafeMutablePointer<Adapter.LowRank?>
        let strength: Float
    }

    private struct Buffers {
        let workspace: Workspace
        /// A x of up to three weights that read the same input, [rows][rank] each.
        let low: [UnsafeMutablePointer<Float>]
        /// B (A x), [rows][outputs]: of all rows for a layer's weight, of ``DecoderModel/logitsRows`` for the output head.
        let wide: UnsafeMutablePointer<Float>
    }

    private let products: MatrixProducts
    private let kernels: UnsafePointer<ebb_kernels>
    private let pool: WorkerPool
    private let config: DecoderConfig
    private var groups: [Group] = []
    /// Made for the first step with an adapter.
    private var buffers: Buffers?
    /// The largest rank that a step has had; what products read is as wide.
    private(set) var rank = 0

    init(_ products: MatrixProducts, kernels: Kernels, pool: WorkerPool, config: DecoderConfig) {
        (self.products, self.kernels, self.pool, self.config) = (products, kernels.table, pool, config)
    }

    /// Bytes of ``regions``.
    var byteCount: Int { buffers?.workspace.byteCount ?? 0 }
    var regions: [MemoryRegion] { buffers.map { [$0.workspace.region] } ?? [] }
    func discard() { buffers?.workspace.discard() }

    /// Whether no row has an adapter.
    var isIdle: Bool { groups.isEmpty }

    /// Makes the buffers where a batch needs them.
    /// - Throws: ``EngineError`` where the system refuses the memory.
    func admit(_ batch: [StepInput]) throws {
        rank = batch.lazy.flatMap(\.adapters).map(\.adapter.rank).reduce(rank, max)
        guard buffers == nil, batch.contains(where: { !$0.adapters.isEmpty }) else { return }
        var plan = Workspace.Plan(rows: DecoderStep.rowLimit)
        let low = (0..<3).map { _ in plan.buffer(AdapterSource.mostRank) }
        let headValues = DecoderModel.logitsRows * config.vocabulary
        let wide = plan.buffer(max(config.widestOutput, (headValues + plan.rows - 1) / plan.rows))
        let workspace = try Workspace(plan)
        buffers = Buffers(workspace: workspace, low: low.map(workspace.floats), wide: workspace.floats(wide))
    }

    func clear() { groups.removeAll(keepingCapacity: true) }

    /// Takes the next rows of a step.
    func add(_ uses: [AdapterUse], rows: Range<Int>) {
        for use in uses {
            let group = Group(rows: rows, table: use.adapter.table, strength: use.strength)
            let before = groups.firstIndex {
                $0.rows.upperBound == rows.lowerBound && $0.table == group.table && $0.strength == group.strength
            }
            if let before {
                groups[before].rows = groups[before].rows.lowerBound..<rows.upperBound
            } else {
                groups.append(group)
            }
        }
    }

    /// Follows the rows that are left to their new places.
    /// - Parameter rows: those that are left, ascending.
    func keep(_ rows: [Int]) {
        for index in groups.indices {
            let old = groups[index].rows
            let first = rows.count { $0 < old.lowerBound }
            groups[index].rows = first..<first + rows.count(where: old.contains)
        }
    }

    /// Adds to products of one input.
    /// - Parameters:
    ///   - x: the input, [rows][k].
    ///   - range: the step's rows that the products are of, the first of them in row 0 of `x` and of the results.
    func add(
        to a: Projection, _ b: Projection?, _ c: Projection?, _ x: UnsafePointer<Float>, k: Int, rows range: Range<Int>
    ) {
        guard let buffers else { return }
        for group in groups {
            let rows = group.rows.clamped(to: range)
            guard !rows.isEmpty else { continue }
            let first = rows.lowerBound - range.lowerBound
            add(
                group, first..<first + rows.count, (a, b, c), UnsafeMutablePointer(mutating: x + first * k), buffers)
        }
    }

    private func add(
        _ group: Group, _ rows: Range<Int>, _ all: (Projection, Projection?, Projection?),
        _ x: UnsafeMutablePointer<Float>, _ buffers: Buffers
    ) {
        func pair(_ projection: Projection?) -> Adapter.LowRank? {
            projection.flatMap { group.table[$0.weight.pointee.ordinal] }
        }
        let pairs = (pair(all.0), pair(all.1), pair(all.2))
        let low = (
            pairs.0?.a.to(buffers.low[0]), pairs.1?.a.to(buffers.low[1]), pairs.2?.a.to(buffers.low[2])
        )
        // They read the same input, so they share its packing.
        switch low {
        case (let a?, let b, let c): products.run(rows: rows.count, a, b, c) { _ in x }
        case (nil, let b?, let c): products.run(rows: rows.count, b, c) { _ in x }
        case (nil, nil, let c?): products.run(rows: rows.count, c) { _ in x }
        case (nil, nil, nil): return
        }
        widen(all.0, pairs.0, low.0, group.strength, rows, buffers.wide)
        widen(all.1, pairs.1, low.1, group.strength, rows, buffers.wide)
        widen(all.2, pairs.2, low.2, group.strength, rows, buffers.wide)
    }

    private func widen(
        _ projection: Projection?, _ pair: Adapter.LowRank?, _ low: Projection?, _ strength: Float, _ rows: Range<Int>,
        _ wide: UnsafeMutablePointer<Float>
    ) {
        guard let projection, let pair, let low else { return }
        products.run(rows: rows.count, pair.b.to(wide)) { _ in low.out }
        let n = projection.weight.pointee.outputs
        pool.run(items: rows.count, grain: 8) { range, _ in
            for row in range {
                kernels.pointee.axpy(
                    projection.out + (rows.lowerBound + row) * n, wide + row * n, strength, UInt32(n))
            }
        }
    }
}
