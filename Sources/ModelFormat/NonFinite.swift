import Quantization

/// Looks for NaN and infinity in a tensor as it lies in the container: in its values, or in the scales that they are
/// multiplied with.
enum NonFinite {
    /// - Returns: how many there are, and what they are.
    static func count(_ data: UnsafeRawBufferPointer, _ shape: TensorShape) -> (count: Int, what: String) {
        switch shape.layout {
        case .vector, .matrix(.f32): (singles(data), "value")
        case .matrix(.f16): (halves(data, exponent: 0x7c00), "value")
        case .matrix(.bf16): (halves(data, exponent: 0x7f80), "value")
        case .matrix(.quantized(let scheme)): (scales(data, scheme, k: shape.k), "scale")
        }
    }

    /// The floats of a record stand at its end, after planes and small scales.
    private static func scales(_ data: UnsafeRawBufferPointer, _ scheme: Scheme, k: Int) -> Int {
        let record = scheme.recordBytes(k: k)
        let floats = record - scheme.floatBytes(k: k)
        var found = 0
        for start in stride(from: 0, to: data.count - record + 1, by: record) {
            let part = UnsafeRawBufferPointer(rebasing: data[start + floats..<start + record])
            switch scheme.scale {
            case .f32: found += singles(part)
            case .e8m0: found += exponents(part, largest: scheme.values == .e2m1 ? 252 : 248)
            case .f16, .twoLevel, .twoLevelPacked: found += halves(part, exponent: 0x7c00)
            }
        }
        return found
    }

    /// Scales 2^(e - 128) whose largest values (12 of E2M1, else 128 at most) would be more than a float holds.
    private static func exponents(_ data: UnsafeRawBufferPointer, largest: UInt8) -> Int {
        data.count { $0 > largest }
    }

    private static func singles(_ data: UnsafeRawBufferPointer) -> Int {
        var found = 0
        for i in 0..<data.count / 4 {
            let bits = data.loadUnaligned(fromByteOffset: i &* 4, as: UInt32.self)
            found &+= bits & 0x7f80_0000 == 0x7f80_0000 ? 1 : 0
        }
        return found
    }

    private static func halves(_ data: UnsafeRawBufferPointer, exponent: UInt16) -> Int {
        var found = 0
        for i in 0..<data.count / 2 {
            let bits = data.loadUnaligned(fromByteOffset: i &* 2, as: UInt16.self)
            found &+= bits & exponent == exponent ? 1 : 0
        }
        return found
    }
}
