/// The tensor types of ggml that Ebb imports, by ggml's numbers.
public enum GGMLType: UInt32, Sendable, CaseIterable {
    case f32 = 0
    case f16 = 1
    case q4_0 = 2
    case q4_1 = 3
    case q5_0 = 6
    case q5_1 = 7
    case q8_0 = 8
    case q2_K = 10
    case q3_K = 11
    case q4_K = 12
    case q5_K = 13
    case q6_K = 14
    case iq2_xxs = 16
    case iq2_xs = 17
    case iq3_xxs = 18
    case iq1_s = 19
    case iq4_nl = 20
    case iq3_s = 21
    case iq2_s = 22
    case iq4_xs = 23
    case f64 = 28
    case iq1_m = 29
    case bf16 = 30
    case tq1_0 = 34
    case tq2_0 = 35
    case mxfp4 = 39
    case nvfp4 = 40
    case q1_0 = 41
    case q2_0 = 42

    /// Values in a block.
    public var blockLength: Int {
        switch self {
        case .f32, .f16, .bf16, .f64: 1
        case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .iq4_nl, .mxfp4: 32
        case .nvfp4, .q2_0: 64
        case .q1_0: 128
        case .q2_K, .q3_K, .q4_K, .q5_K, .q6_K, .iq2_xxs, .iq2_xs, .iq3_xxs, .iq1_s, .iq3_s, .iq2_s, .iq4_xs, .iq1_m,
            .tq1_0, .tq2_0:
            256
        }
    }

    /// Bytes of a block.
    public var blockBytes: Int {
        switch self {
        case .f32: 4
        case .f16, .bf16: 2
        case .f64: 8
        case .q4_0: 18
        case .q4_1: 20
        case .q5_0: 22
        case .q5_1: 24
        case .q8_0: 34
        case .q2_K: 84
        case .q3_K: 110
        case .q4_K: 144
        case .q5_K: 176
        case .q6_K: 210
        case .iq2_xxs: 66
        case .iq2_xs: 74
        case .iq3_xxs: 98
        case .iq1_s: 50
        case .iq4_nl: 18
        case .iq3_s: 110
        case .iq2_s: 82
        case .iq4_xs: 136
        case .iq1_m: 56
        case .tq1_0: 54
        case .tq2_0: 66
        case .mxfp4: 17
        case .nvfp4: 36
        case .q1_0, .q2_0: 18
        }
    }

    /// ggml's name: `Q4_K`, `IQ2_XXS`.
    public var name: String { "\(self)".uppercased() }

    /// Why a number that is none of these is refused.
    static func refusal(of number: UInt32) -> String {
        let known = "supported: " + allCases.map(\.name).joined(separator: ", ")
        switch number {
        case 24...27:
            return "the type \(["I8", "I16", "I32", "I64"][Int(number) - 24]): integers are no weights (\(known))"
        case 9, 15:
            return
                "the type \(number == 9 ? "Q8_1" : "Q8_K"), which ggml has for activations and no file for weights (\(known))"
        case 4, 5, 31...33, 36...38:
            return
                "the tensor type \(number), which ggml has given up: make the file anew with today's llama.cpp (\(known))"
        default: return "the unsupported tensor type \(number) (\(known))"
        }
    }
}
