import CKernels

/// Memory for the packed rows that a matrix product reads: int8 with scales, floats, and bf16. Grows to the largest use.
package final class ActivationBuffer {
    private var memory: AnonymousMemory?
    private var capacity = 0
    package private(set) var view = ebb_activations()

    /// Rows in the order of a weight's columns, before they are packed, [rows][k]; nil without `gathers`.
    private(set) var gathered: UnsafeMutablePointer<Float>?
    private let gathers: Bool

    /// - Parameters:
    ///   - isSteady: products of a row have the same bits however many rows there are.
    ///   - gathers: whether there is room for ``gathered``.
    package init(isSteady: Bool = false, gathers: Bool = false) {
        self.gathers = gathers
        view.steady = isSteady ? 1 : 0
    }

    var regions: [MemoryRegion] { memory.map { [$0.region] } ?? [] }

    func discard() {
        memory = nil
        capacity = 0
    }

    private static func sizes(_ rows: Int, _ k: Int, _ block: Int, gathers: Bool) -> [Int] {
        let kp = (k + 31) / 32 * 32
        return [
            rows * kp, rows * (kp / block) * 4, rows * (kp / 32) * 4, rows * (kp / 32) * 4, rows * (kp / 16) * 4,
            rows * (kp / 16) * 4, rows * k * 4, rows * ((k + 1) / 2) * 4,
            gathers ? rows * k * 4 : 0,
        ].map { ($0 + 63) / 64 * 64 }
    }

    /// Bytes that ``shape(rows:k:block:)`` takes.
    func byteCount(rows: Int, k: Int, block: Int) -> Int {
        Self.sizes(rows, k, block, gathers: gathers).reduce(0, +)
    }

    /// Lays the buffer out for `rows` rows of `k` values. Row blocks are packed one after another.
    package func shape(rows: Int, k: Int, block: Int = 32) throws {
        let kp = (k + 31) / 32 * 32
        let sizes = Self.sizes(rows, k, block, gathers: gathers)
        let total = sizes.reduce(0, +)
        if total > capacity {
            memory = nil
            memory = try AnonymousMemory(byteCount: total, hugePages: rows >= AnonymousMemory.rowsForHugePages)
            capacity = total
        }
        guard var at = memory?.base else { return }
        func next(_ index: Int) -> UnsafeMutableRawPointer {
            defer { at += sizes[index] }
            return at
        }
        view.rows = UInt32(rows)
        view.k = UInt32(k)
        view.kp = UInt32(kp)
        view.block = UInt32(block)
        view.q = next(0).assumingMemoryBound(to: Int8.self)
        view.scale = next(1).assumingMemoryBound(to: Float.self)
        view.sum = next(2).assumingMemoryBound(to: Float.self)
        view.sum32 = next(3).assumingMemoryBound(to: Int32.self)
        view.sum16 = next(4).assumingMemoryBound(to: Int32.self)
        view.lanes = next(5).assumingMemoryBound(to: UInt32.self)
        view.f = next(6).assumingMemoryBound(to: Float.self)
        view.pairs = next(7).assumingMemoryBound(to: UInt32.self)
        gathered = gathers ? next(8).assumingMemoryBound(to: Float.self) : nil
    }

    /// Some rows as a buffer of their own: each row's values follow those of the rows before it.
    func part(_ rows: Range<Int>) -> ebb_activations {
        var part = view
        let (first, k, kp) = (rows.lowerBound, Int(view.k), Int(view.kp))
        part.rows = UInt32(rows.count)
        part.q += first * kp
        part.scale += first * (kp / Int(view.block))
        part.sum += first * (kp / 32)
        part.sum32 += first * (kp / 32)
        part.sum16 += first * (kp / 16)
        part.lanes += first * (kp / 16)
        part.f += first * k
        part.pairs += first * ((k + 1) / 2)
        return part
    }
}
