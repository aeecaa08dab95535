import Foundation

/// A safetensors file (https://github.com/huggingface/safetensors#format): 8 bytes of length, a JSON header, raw data.
/// Mapped, and checked in full before anything is used.
struct SafetensorsFile: Sendable {
    struct Tensor: Sendable {
        enum DataType: String, Sendable {
            case f32 = "F32", f16 = "F16", bf16 = "BF16", f8 = "F8_E4M3"
            case i64 = "I64", i32 = "I32", i8 = "I8", u8 = "U8", other

            /// Bytes of a value; nil where the type is of no use to Ebb.
            var size: Int? {
                switch self {
                case .i64: 8
                case .f32, .i32: 4
                case .f16, .bf16: 2
                case .f8, .i8, .u8: 1
                case .other: nil
                }
            }

            var isFloat: Bool { self == .f32 || self == .f16 || self == .bf16 }
        }
        let type: DataType
        /// As the file names the type.
        let typeName: String
        let shape: [Int]
        let range: Range<Int>

        var count: Int { shape.reduce(1, *) }
    }

    let tensors: [String: Tensor]
    let file: MappedFile

    private struct Entry: Decodable {
        let dtype: String
        let shape: [Int]
        let data_offsets: [Int]
    }

    private struct Header: Decodable {
        var entries: [String: Entry] = [:]

        struct Key: CodingKey {
            let stringValue: String
            let intValue: Int? = nil
            init?(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Key.self)
            for key in container.allKeys where key.stringValue != "__metadata__" {
                entries[key.stringValue] = try container.decode(Entry.self, forKey: key)
            }
        }
    }

    /// - Throws: ``FormatError``.
    init(path: String) throws {
        file = try MappedFile(path: path)
        var cursor = ByteCursor(file.bytes, what: path)
        let length = try cursor.read(UInt64.self)
        guard length <= 100_000_000 else { throw FormatError("\(path): a header of \(length) bytes is impossible") }
        let text = try cursor.take(length)
        let header: Header
        do {
            header = try JSONDecoder().decode(Header.self, from: Data(text))
        } catch {
            throw FormatError("\(path) is no safetensors file: its header is not the JSON object that is expected")
        }
        let start = cursor.offset
        let size = file.bytes.count - start
        tensors = try header.entries.reduce(into: [:]) { tensors, item in
            tensors[item.key] = try Self.tensor(item.key, item.value, start: start, size: size, path: path)
        }
        try Overlap.demandNone(tensors.map { ($0.key, $0.value.range) }, path: path)
    }

    private static func tensor(_ name: String, _ entry: Entry, start: Int, size: Int, path: String) throws -> Tensor {
        guard entry.data_offsets.count == 2, entry.data_offsets[0] >= 0, entry.data_offsets[0] <= entry.data_offsets[1],
            entry.data_offsets[1] <= size
        else {
            throw FormatError("\(path): \(name) lies beyond the end of the file; it is truncated or damaged")
        }
        let type = Tensor.DataType(rawValue: entry.dtype) ?? .other
        var count = 1
        for dimension in entry.shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
            guard dimension >= 0, !overflow, product <= Int.max / 8 else {
                throw FormatError("\(path): the shape \(entry.shape) of \(name) is impossible")
            }
            count = product
        }
        let bytes = entry.data_offsets[1] - entry.data_offsets[0]
        guard type.size.map({ bytes == count * $0 }) ?? true else {
            throw FormatError("\(path): \(name) has \(bytes) bytes, which is not what its shape \(entry.shape) takes")
        }
        return Tensor(
            type: type, typeName: entry.dtype, shape: entry.shape,
            range: start + entry.data_offsets[0]..<start + entry.data_offsets[1])
    }

    /// The bytes of a tensor.
    func data(_ tensor: Tensor) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: file.bytes[tensor.range]) }

    /// Reads `count` values of a tensor of floats: the value `first`, and then each `step`th; all must lie in the tensor.
    func read(_ tensor: Tensor, from first: Int, step: Int = 1, count: Int, into out: UnsafeMutablePointer<Float>) {
        let bytes = data(tensor)
        switch tensor.type {
        case .f32:
            for i in 0..<count {
                out[i] = Float(bitPattern: bytes.loadUnaligned(fromByteOffset: (first + i * step) * 4, as: UInt32.self))
            }
        case .f16:
            for i in 0..<count {
                out[i] = Float(half: bytes.loadUnaligned(fromByteOffset: (first + i * step) * 2, as: UInt16.self))
            }
        case .bf16:
            for i in 0..<count {
                let bits = bytes.loadUnaligned(fromByteOffset: (first + i * step) * 2, as: UInt16.self)
                out[i] = Float(bitPattern: UInt32(bits) << 16)
            }
        case .f8, .i64, .i32, .i8, .u8, .other: break  // such tensors are never asked for
        }
    }
}
