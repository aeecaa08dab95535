import Foundation
import Glibc

/// A safetensors file (https://github.com/huggingface/safetensors#format): 8 bytes of length, a JSON header, raw data.
/// Mapped, and checked in full before anything is used.
struct SafetensorsFile: Sendable {
    struct Tensor: Sendable {
        enum DataType: String, Sendable { case f32 = "F32", f16 = "F16", bf16 = "BF16", other }
        let type: DataType
        let shape: [Int]
        let range: Range<Int>
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

    /// The one file of weights of a Hugging Face folder.
    /// - Throws: ``FormatError``, which says what to do where the weights come in several files, or in another format.
    init(folder: String) throws {
        let path = folder + "/model.safetensors"
        func has(_ name: String) -> Bool { access(folder + "/" + name, F_OK) == 0 }
        if !has("model.safetensors"), has("model.safetensors.index.json") {
            throw FormatError(
                "\(folder): the weights come in several parts (model.safetensors.index.json lists them); Ebb reads one: load "
                    + "the model with transformers, and save_pretrained(…, max_shard_size=\"100GB\")")
        }
        if !has("model.safetensors"), has("pytorch_model.bin") {
            throw FormatError("\(path) is missing: pytorch_model.bin is not read; save the model as safetensors")
        }
        try self.init(path: path)
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
        guard type == .other || bytes == count * (type == .f32 ? 4 : 2) else {
            throw FormatError("\(path): \(name) has \(bytes) bytes, which is not what its shape \(entry.shape) takes")
        }
        return Tensor(
            type: type, shape: entry.shape, range: start + entry.data_offsets[0]..<start + entry.data_offsets[1])
    }

    /// Reads `count` values from value `first` on; the range must lie in the tensor.
    func read(_ tensor: Tensor, from first: Int, count: Int, into out: UnsafeMutablePointer<Float>) {
        let size = tensor.type == .f32 ? 4 : 2
        let start = tensor.range.lowerBound + first * size
        let bytes = UnsafeRawBufferPointer(rebasing: file.bytes[start..<start + count * size])
        switch tensor.type {
        case .f32:
            UnsafeMutableRawBufferPointer(start: out, count: count * 4).copyMemory(from: bytes)
        case .f16:
            for i in 0..<count { out[i] = Float(half: bytes.loadUnaligned(fromByteOffset: i * 2, as: UInt16.self)) }
        case .bf16:
            for i in 0..<count {
                out[i] = Float(bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: i * 2, as: UInt16.self)) << 16)
            }
        case .other: break  // such tensors are never asked for
        }
    }
}
