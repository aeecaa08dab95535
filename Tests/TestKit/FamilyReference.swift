import Foundation

/// A small random model of a family as an independent program has run it: Tests/Families/README.md says what the files hold.
public struct FamilyReference: Decodable, Sendable {
    public struct Tensor: Decodable, Sendable {
        public let name: String
        public let shape: [Int]
        let mean, spread: Float
    }

    public struct GGUF: Decodable, Sendable {
        let metadata: [String: MetadataValue]
        let tensors: [Made]
        /// Logits, where the file loses a setting of the folder.
        public let logits, logits_half_cache: [[[Float]]]?
        /// The same of a score.
        public let scores: [Float]?
    }

    struct MetadataValue: Decodable, Sendable {
        let value: GGUFBuilder.Value

        private enum Keys: String, CodingKey { case type, value }

        init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: Keys.self)
            let type = try fields.decode(String.self, forKey: .type)
            switch type {
            case "uint32": value = .uint32(try fields.decode(UInt32.self, forKey: .value))
            case "int32": value = .int32(try fields.decode(Int32.self, forKey: .value))
            case "float32": value = .float32(try fields.decode(Float.self, forKey: .value))
            case "bool": value = .bool(try fields.decode(Bool.self, forKey: .value))
            case "string": value = .string(try fields.decode(String.self, forKey: .value))
            case "array string": value = .strings(try fields.decode([String].self, forKey: .value))
            default:
                throw DecodingError.dataCorruptedError(
                    forKey: .type, in: fields, debugDescription: "the unknown type \(type)")
            }
        }
    }

    /// A tensor of the GGUF and how it follows from the folder's.
    struct Made: Decodable, Sendable {
        let name: String
        /// Rows first.
        let shape: [Int]
        let from: [String]
        let op: String
        let heads, first, count, step: Int?
        let values: [Float]?
    }

    public let family: String
    public let tensors: [Tensor]
    public let gguf: GGUF?
    public let tokens: [[Int32]]
    /// Token types of each prompt; nil for 0.
    public let types: [[Int32]]?
    /// The rows of each prompt that results are given of.
    public let rows: [[Int]]?
    public let logits: [[[Float]]]?
    /// With keys and values that were rounded to f16.
    public let logits_half_cache: [[[Float]]]?
    public let hidden: [[[Float]]]?
    public let embeddings: [[Float]]?
    public let scores: [Float]?

    public init(_ url: URL?) throws {
        guard let url else { throw CocoaError(.fileNoSuchFile) }
        self = try JSONDecoder().decode(FamilyReference.self, from: try Data(contentsOf: url))
    }

    /// The values of one of the folder's tensors.
    public static func values(_ tensor: Tensor) -> [Float] {
        var state = tensor.name.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return (0..<tensor.shape.reduce(1, *)).map { _ in
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = (state ^ state >> 30) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
            z ^= z >> 31
            return tensor.mean + tensor.spread * Float(Int(z >> 57) - 64) / 64
        }
    }

    /// The GGUF, with a vocabulary of letters.
    public func gguf(change: (inout GGUFBuilder) -> Void = { _ in }) throws -> [UInt8] {
        guard let gguf else { throw CocoaError(.fileNoSuchFile) }
        let byName = Dictionary(tensors.map { ($0.name, $0) }) { first, _ in first }
        var builder = GGUFBuilder(
            gguf.metadata.sorted { $0.key < $1.key }.map { ($0.key, $0.value.value) },
            try gguf.tensors.map { made in
                let sources = try made.from.map { name in
                    guard let tensor = byName[name] else { throw CocoaError(.fileReadCorruptFile) }
                    return tensor
                }
                return .f32(
                    made.name, made.shape.reversed().map { UInt64($0) }, try Self.make(made, from: sources))
            })
        change(&builder)
        return builder.build()
    }

    /// The same with the weights of products in 8 bits, which hold them exactly; the router of experts stays in floats.
    public func eightBitGGUF(change: (inout GGUFBuilder) -> Void = { _ in }) throws -> [UInt8] {
        let units = Dictionary(tensors.map { ($0.name, $0.mean == 0 ? $0.spread / 64 : 0) }) { first, _ in first }
        let made = Dictionary((gguf?.tensors ?? []).map { ($0.name, $0) }) { first, _ in first }
        return try gguf { builder in
            change(&builder)
            builder.tensors = builder.tensors.map { tensor in
                guard let source = made[tensor.name]?.from.first, let unit = units[source], unit > 0,
                    tensor.name.hasSuffix(".weight"), !tensor.name.contains("ffn_gate_inp")
                else { return tensor }
                return tensor.q8(unit: unit)
            }
        }
    }

    private static func make(_ made: Made, from sources: [Tensor]) throws -> [Float] {
        let values = sources.flatMap(values)
        switch made.op {
        case "copy", "stack", "row": return values
        case "add_one": return values.map { $0 + 1 }
        case "values": return made.values ?? []
        case "permute": return permuted(values, made.shape, heads: made.heads ?? 1)
        case "rows":
            let width = made.shape.last ?? 1
            return Array(values[(made.first ?? 0) * width..<((made.first ?? 0) + (made.count ?? 0)) * width])
        case "transpose": return transposed(values, sources[0].shape)
        case "columns", "columns_transpose":
            let step = made.step ?? 1
            let chosen = stride(from: made.first ?? 0, to: values.count, by: step).map { values[$0] }
            guard made.op == "columns_transpose" else { return chosen }
            var shape = sources[0].shape
            shape[shape.count - 1] /= step
            return transposed(chosen, shape)
        default: throw CocoaError(.featureUnsupported)
        }
    }

    /// Rows of each head from halves to pairs.
    private static func permuted(_ values: [Float], _ shape: [Int], heads: Int) -> [Float] {
        let width = shape.count > 1 ? shape[1] : 1
        let rows = shape[0] / heads
        return (0..<shape[0]).flatMap { row in
            let (head, place) = (row / rows, row % rows)
            let from = head * rows + place % 2 * (rows / 2) + place / 2
            return values[from * width..<(from + 1) * width]
        }
    }

    /// The last two dimensions change places.
    private static func transposed(_ values: [Float], _ shape: [Int]) -> [Float] {
        let (rows, columns) = (shape[shape.count - 2], shape[shape.count - 1])
        return stride(from: 0, to: values.count, by: rows * columns).flatMap { start in
            (0..<columns).flatMap { column in (0..<rows).map { values[start + $0 * columns + column] } }
        }
    }
}
