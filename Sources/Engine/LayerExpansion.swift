import CKernels
import ModelFormat

/// A plan to expand a layer's quantized matrices into float tiles. It reads the mapping alone, so it can run on any thread.
///
/// @unchecked Sendable: immutable; the matrices point into the mapping that `file` keeps alive.
public struct LayerExpansion: @unchecked Sendable {
    public let layer: Int
    let file: EbbFile
    let matrices: [ebb_matrix]
    /// For each matrix what its columns are divided by, or nil.
    let smoothing: [VectorRef?]
    let precision: ExpandedPrecision

    /// Expands; takes milliseconds a layer.
    /// - Parameter goOn: asked between pieces; false abandons the work.
    /// - Throws: ``EngineError`` where the system refuses the memory, or when it was abandoned.
    public func run(_ kernels: Kernels, while goOn: () -> Bool = { true }) throws -> ExpandedLayer {
        let sizes = matrices.map { (Linear($0).expandedBytes(precision) + 63) / 64 * 64 }
        let memory = try AnonymousMemory(byteCount: sizes.reduce(0, +), hugePages: true)
        var at = memory.base
        var bases: [UnsafeRawPointer?] = []
        for (index, (matrix, size)) in zip(matrices, sizes).enumerated() {
            guard size > 0 else {
                bases.append(nil)
                continue
            }
            let tiles = Int((matrix.n + 15) / 16)
            for first in stride(from: 0, to: tiles, by: 64) {
                guard goOn() else { throw EngineError("the expansion was abandoned") }
                withUnsafePointer(to: matrix) {
                    kernels.table.pointee.expand(
                        $0, UInt32(first), UInt32(min(first + 64, tiles)), precision.encoding, at)
                }
            }
            if let smoothing = smoothing[index] { divideColumns(of: matrix, at, by: smoothing) }
            bases.append(UnsafeRawPointer(at))
            at += size
        }
        return ExpandedLayer(layer: layer, memory: memory, bases: bases)
    }

    /// Takes a migration of outliers back: tiles [k][16].
    private func divideColumns(of matrix: ebb_matrix, _ tiles: UnsafeMutableRawPointer, by smoothing: VectorRef) {
        let k = Int(matrix.k)
        for line in 0..<Int((matrix.n + 15) / 16) * k {
            let factor = 1 / smoothing[line % k]
            for i in line * 16..<line * 16 + 16 {
                if precision == .f32 {
                    tiles.assumingMemoryBound(to: Float.self)[i] *= factor
                } else {
                    let halves = tiles.assumingMemoryBound(to: UInt16.self)
                    halves[i] = ebb_f32_to_f16(ebb_f16_to_f32(halves[i]) * factor)
                }
            }
        }
    }
}

/// A layer's expanded weights, in a mapping of their own.
///
/// @unchecked Sendable: immutable once made.
public struct ExpandedLayer: @unchecked Sendable {
    public let layer: Int
    let memory: AnonymousMemory
    /// Where each of the layer's matrices starts; nil for those that are floats in the file.
    let bases: [UnsafeRawPointer?]

    public var byteCount: Int { memory.byteCount }
}
