import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("Folders whose weights come in shards")
struct ShardedFolderTests {
    private static let index = "model.safetensors.index.json"

    private func shard(_ number: Int, of count: Int) -> String {
        String(format: "model-%05d-of-%05d.safetensors", number + 1, count)
    }

    /// A folder whose weights lie in `count` files, and the index's map.
    private func folder(
        _ model: TinyDecoder, count: Int, change: (inout [String: Any]) -> Void = { _ in }
    ) throws -> TemporaryFolder {
        let folder = try model.folder()
        try FileManager.default.removeItem(atPath: folder.file("model.safetensors"))
        var map: [String: Any] = [:]
        for number in 0..<count {
            var builder = SafetensorsBuilder()
            builder.tensors = model.weights.tensors.enumerated().filter { $0.offset % count == number }.map(\.element)
            for tensor in builder.tensors { map[tensor.name] = shard(number, of: count) }
            try folder.write(shard(number, of: count), try builder.build())
        }
        change(&map)
        let index: [String: Any] = ["metadata": ["total_size": 1], "weight_map": map]
        try folder.write(Self.index, Array(try JSONSerialization.data(withJSONObject: index)))
        return folder
    }

    private func imported(_ path: String, in folder: TemporaryFolder) throws -> EbbFile {
        try ModelImport(try ModelSources.open(path)).write(to: folder.file("out.ebb"))
        return try EbbFile(path: folder.file("out.ebb"))
    }

    private func expectSame(_ a: EbbFile, _ b: EbbFile) throws {
        #expect(a.names == b.names)
        for name in a.names {
            let (one, other) = (try #require(a.tensors[name]), try #require(b.tensors[name]))
            #expect(a.data(one).elementsEqual(b.data(other)), "\(name)")
        }
    }

    private func refusal(count: Int = 3, change: (inout [String: Any]) -> Void) throws -> String {
        let folder = try folder(try TinyDecoder("qwen3"), count: count, change: change)
        return #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }?.description ?? ""
    }

    @Test("Shards are one model, also of experts that lie in several", arguments: ["llama", "qwen3moe"], [2, 3, 7])
    func shards(name: String, count: Int) throws {
        let model = try TinyDecoder(name)
        let (one, parts) = (try model.folder(), try folder(model, count: count))
        try expectSame(try imported(one.path, in: one), try imported(parts.path, in: parts))
    }

    @Test("A folder of symbolic links, as a hub's cache has them, is read like one of files")
    func links() throws {
        let files = try folder(try TinyDecoder("llama"), count: 3)
        let cache = try TemporaryFolder()
        let manager = FileManager.default
        for folder in ["blobs", "snapshots/abc"] {
            try manager.createDirectory(atPath: cache.file(folder), withIntermediateDirectories: true)
        }
        for (number, name) in files.names.enumerated() {
            try manager.copyItem(atPath: files.file(name), toPath: cache.file("blobs/\(number)"))
            try manager.createSymbolicLink(
                atPath: cache.file("snapshots/abc/\(name)"), withDestinationPath: "../../blobs/\(number)")
        }
        try expectSame(try imported(cache.file("snapshots/abc"), in: cache), try imported(files.path, in: files))
        try manager.removeItem(atPath: cache.file("blobs/\(files.names.firstIndex(of: Self.index) ?? 0)"))
        #expect(throws: FormatError.self) { try ModelSources.open(cache.file("snapshots/abc")) }
    }

    @Test("A shard that is missing is named")
    func missing() throws {
        let folder = try folder(try TinyDecoder("llama"), count: 3)
        try FileManager.default.removeItem(atPath: folder.file(shard(1, of: 3)))
        let error = #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }
        #expect(error?.description.contains("\(shard(1, of: 3)) is missing") == true)
    }

    @Test("A tensor that is not where the index says, or that it does not say, is named")
    func contradictions() throws {
        let name = "model.norm.weight"
        let text = try refusal { map in
            let place = map[name] as? String
            map[name] = shard(place == shard(0, of: 3) ? 1 : 0, of: 3)
        }
        #expect(text.contains(name) && text.contains("does not hold it"), "\(text)")
        #expect(try refusal { $0[name] = nil }.contains(name))
        #expect(try refusal { $0["model.parrot.weight"] = shard(0, of: 3) }.contains("model.parrot.weight"))
        #expect(try refusal { $0[name] = 3 }.contains(name))
    }

    @Test(
        "An index that leads out of the folder is refused",
        arguments: ["../other.safetensors", "/etc/passwd", "a/../../b", ""])
    func outside(file: String) throws {
        #expect(try refusal { $0["model.norm.weight"] = file }.contains("leaves the folder"))
    }

    @Test(
        "An index that is no map is refused", arguments: ["{}", #"{"weight_map":[]}"#, "[]", "", #"{"weight_map":{}}"#])
    func noMap(text: String) throws {
        let folder = try folder(try TinyDecoder("llama"), count: 2)
        try folder.write(Self.index, Array(text.utf8))
        #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }
    }
}
