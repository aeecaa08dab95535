import CKernels
import ModelFormat
import Synchronization

/// The expansion of a unit's quantized matrices (``LayeredModel``) into float tiles, piece by piece, so that whoever runs it
/// can do something else in between, or give up.
public final class UnitExpansion {
    public let unit: Int
    private let matrices: [ebb_matrix]
    /// For each matrix what its columns are divided by, or nil.
    private let smoothing: [VectorRef?]
    private let precision: ExpandedPrecision
    private let kernels: UnsafePointer<ebb_kernels>
    private let memory: AnonymousMemory
    private var bases: [UnsafeRawPointer?] = []
    private var at: UnsafeMutableRawPointer
    private var matrix = 0
    private var tile = 0
    /// Whether the matrix at hand has values that are infinite in f16: it stays as it is in the file, where they are not.
    private let isBeyondHalves = Atomic<Bool>(false)

    /// Tiles of 16 channels in a piece: a fraction of a millisecond.
    private static let pieceTiles = 64

    /// - Throws: ``EngineError`` where the system refuses the memory.
    init(
        unit: Int, matrices: [ebb_matrix], smoothing: [VectorRef?], precision: ExpandedPrecision, kernels: Kernels
    ) throws {
        self.unit = unit
        self.matrices = matrices
        self.smoothing = smoothing
        self.precision = precision
        self.kernels = kernels.table
        memory = try AnonymousMemory(
            byteCount: matrices.reduce(0) { $0 + Self.size($1, precision) }, hugePages: true)
        at = memory.base
    }

    private static func size(_ matrix: ebb_matrix, _ precision: ExpandedPrecision) -> Int {
        (Linear(matrix).expandedBytes(precision) + 63) / 64 * 64
    }

    /// Expands the next piece on a pool's threads.
    /// - Returns: the unit, once its last piece is done.
    public func advance(_ pool: WorkerPool) -> ExpandedUnit? {
        guard matrix < matrices.count else { return finished() }
        let size = Self.size(matrices[matrix], precision)
        guard size > 0 else {
            bases.append(nil)
            matrix += 1
            return matrix < matrices.count ? nil : finished()
        }
        let tiles = (Int(matrices[matrix].n) + 15) / 16
        let end = min(tile + Self.pieceTiles, tiles)
        let (first, base) = (tile, at)
        pool.run(items: end - first, grain: 8) { range, _ in
            expand(first + range.lowerBound..<first + range.upperBound, of: matrix, base)
        }
        tile = end
        guard tile == tiles else { return nil }
        if isBeyondHalves.exchange(false, ordering: .relaxed) {
            bases.append(nil)
            memory.discard(at - memory.base..<at - memory.base + size)
        } else {
            bases.append(UnsafeRawPointer(at))
        }
        at += size
        (matrix, tile) = (matrix + 1, 0)
        return matrix < matrices.count ? nil : finished()
    }

    private func finished() -> ExpandedUnit { ExpandedUnit(unit: unit, memory: memory, bases: bases) }

    private func expand(_ tiles: Range<Int>, of index: Int, _ base: UnsafeMutableRawPointer) {
        withUnsafePointer(to: matrices[index]) {
            kernels.pointee.expand($0, UInt32(tiles.lowerBound), UInt32(tiles.upperBound), precision.encoding, base)
        }
        if let smoothing = smoothing[index] { divideColumns(tiles, of: matrices[index], base, by: smoothing) }
        if precision == .f16, hasInfinity(tiles, of: matrices[index], base) {
            isBeyondHalves.store(true, ordering: .relaxed)
        }
    }

    /// Whether a value of f16 tiles [k][16] is no finite number.
    private func hasInfinity(_ range: Range<Int>, of matrix: ebb_matrix, _ tiles: UnsafeMutableRawPointer) -> Bool {
        let values = UnsafeBufferPointer(
            start: tiles.assumingMemoryBound(to: UInt16.self) + range.lowerBound * Int(matrix.k) * 16,
            count: range.count * Int(matrix.k) * 16)
        var largest: UInt16 = 0
        for value in values { largest = max(largest, value & 0x7fff) }
        return largest >= 0x7c00
    }

    /// Takes a migration of outliers back: tiles [k][16].
    private func divideColumns(
        _ range: Range<Int>, of matrix: ebb_matrix, _ tiles: UnsafeMutableRawPointer, by smoothing: VectorRef
    ) {
        let k = Int(matrix.k)
        for line in range.lowerBound * k..<range.upperBound * k {
            let factor = 1 / smoothing[line % k]
            for i in line * 16..<line * 16 + 16 {
                let halves = tiles.assumingMemoryBound(to: UInt16.self)
                switch precision {
                case .f32: tiles.assumingMemoryBound(to: Float.self)[i] *= factor
                case .f16: halves[i] = ebb_f32_to_f16(ebb_f16_to_f32(halves[i]) * factor)
                case .bf16: halves[i] = ebb_f32_to_bf16(ebb_bf16_to_f32(halves[i]) * factor)
                }
            }
        }
    }
}

/// A unit's expanded weights, in a mapping of their own.
///
/// @unchecked Sendable: immutable once made.
public struct ExpandedUnit: @unchecked Sendable {
    public let unit: Int
    let memory: AnonymousMemory
    /// Where each of the unit's matrices starts; nil for those that are floats in the file, or have values that the precision
    /// does not.
    let bases: [UnsafeRawPointer?]

    public var byteCount: Int { memory.byteCount }
}
