import CKernels
import Quantization

/// A weight matrix as the engine runs it: the mapped pages, and its expansion while its layer is dequantized.
/// Plain data, so that the token loop counts no references.
package struct Linear {
    /// In the mapping, as it is.
    let mapped: ebb_matrix
    /// Float tiles; meaningful while `isExpanded`.
    private(set) var expanded: ebb_matrix
    private(set) var isExpanded = false
    private(set) var isSubstituted = false
    /// Its number among the model's matrices.
    var ordinal = 0
    /// Set in calibrated models: the input has fixed scales, and the product is the integers' over the whole of k.
    let fixedInput: FixedInput?

    /// Which input each column of ``mapped`` reads; nil where the first reads the first.
    private let mappedOrder: InputOrder?

    init(_ mapped: ebb_matrix, fixedInput: FixedInput? = nil, order: InputOrder? = nil) {
        self.mapped = mapped
        mappedOrder = order
        self.fixedInput = fixedInput
        expanded = mapped
    }

    var isQuantized: Bool { mapped.encoding == EBB_ENCODING_QUANTIZED.rawValue }
    /// Whether its product reads int8 activations now.
    var readsIntegers: Bool { isQuantized && !isExpanded }
    /// Which input each column reads now.
    var order: InputOrder? { isSubstituted ? nil : mappedOrder }
    /// Whether its product can read bf16 activations now.
    var readsPairs: Bool { isExpanded && expanded.encoding == EBB_ENCODING_BF16.rawValue }
    var tiles: Int { (Int(mapped.n) + 15) / 16 }
    var outputs: Int { Int(mapped.n) }

    /// Bytes of the expansion; 0 for matrices that are floats in the file.
    func expandedBytes(_ precision: ExpandedPrecision) -> Int {
        isQuantized ? tiles * 16 * Int(mapped.k) * precision.byteCount : 0
    }

    mutating func use(expansion: UnsafeRawPointer, _ precision: ExpandedPrecision) {
        expanded = mapped
        expanded.encoding = precision.encoding
        expanded.data = expansion.assumingMemoryBound(to: UInt8.self)
        isExpanded = true
    }

    /// Computes with other values, f32 tiles.
    mutating func substitute(_ tiles: UnsafeRawPointer) {
        use(expansion: tiles, .f32)
        isSubstituted = true
    }

    /// What rows are looked up in, where columns have no order of their own: a quantized embedding is exact in the mapping.
    var table: ebb_matrix { isSubstituted ? expanded : mapped }

    mutating func dropExpansion() {
        isSubstituted = false
        expanded = mapped
        isExpanded = false
    }
}

/// How a calibrated model quantizes the input of a weight: q = x * multiplier, a multiplier for each input channel, so
/// that x ≈ q * scale * smoothing. The weight holds w * smoothing.
struct FixedInput {
    let scale: Float
    /// 1 / (scale * smoothing), [k].
    let multipliers: UnsafePointer<Float>
    /// Migrates outliers from the activations to the weights (Xiao et al. 2023), [k]; nil for 1.
    let smoothing: VectorRef?
}

/// Which value of an input each column of a weight reads, [k]. Weights with equal orders have the same one.
///
/// It points to what a ``WeightSet`` holds: plain data, so that the token loop counts no references.
struct InputOrder: Equatable {
    fileprivate let places: UnsafePointer<UInt32>

    /// - Parameter places: a permutation of 0..<k.
    init(_ places: UnsafePointer<UInt32>) { self.places = places }

    /// Rows of `from` [rows][k] in the order of the columns.
    func gather(_ from: UnsafePointer<Float>, _ rows: Range<Int>, k: Int, into out: UnsafeMutablePointer<Float>) {
        for row in rows {
            let (from, out) = (from + row * k, out + row * k)
            for column in 0..<k { out[column] = from[Int(places[column])] }
        }
    }
}

/// What weights are expanded to in dequantized mode.
public enum ExpandedPrecision: String, Sendable, CaseIterable {
    /// bf16 rounds weights and activations to 8 bits, for products of twice the speed where the CPU has them.
    case f16, f32, bf16

    var byteCount: Int { self == .f32 ? 4 : 2 }
    var encoding: UInt32 {
        switch self {
        case .f16: EBB_ENCODING_F16.rawValue
        case .f32: EBB_ENCODING_F32.rawValue
        case .bf16: EBB_ENCODING_BF16.rawValue
        }
    }
}

package typealias LinearRef = UnsafeMutablePointer<Linear>
typealias VectorRef = UnsafePointer<Float>
