import CKernels
import Quantization

/// A weight matrix as the engine runs it: the mapped pages, and its expansion while its layer is dequantized.
/// Plain data, so that the token loop counts no references.
struct Linear {
    /// In the mapping, as it is.
    let mapped: ebb_matrix
    /// Float tiles; meaningful while `isExpanded`.
    private(set) var expanded: ebb_matrix
    private(set) var isExpanded = false

    init(_ mapped: ebb_matrix) {
        self.mapped = mapped
        expanded = mapped
    }

    var isQuantized: Bool { mapped.encoding == EBB_ENCODING_QUANTIZED.rawValue }
    /// Whether its product reads int8 activations now.
    var readsIntegers: Bool { isQuantized && !isExpanded }
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

    mutating func dropExpansion() {
        expanded = mapped
        isExpanded = false
    }
}

/// What weights are expanded to in dequantized mode.
public enum ExpandedPrecision: String, Sendable, CaseIterable {
    case f16, f32

    var byteCount: Int { self == .f16 ? 2 : 4 }
    var encoding: UInt32 { self == .f16 ? EBB_ENCODING_F16.rawValue : EBB_ENCODING_F32.rawValue }
}

typealias LinearRef = UnsafeMutablePointer<Linear>
typealias VectorRef = UnsafePointer<Float>
