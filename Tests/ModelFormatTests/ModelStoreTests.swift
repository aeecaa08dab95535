import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("The folder of models")
struct ModelStoreTests {
    private let folder: TemporaryFolder
    private let store: ModelStore

    init() throws {
        folder = try TemporaryFolder()
        store = ModelStore(folder: folder.path)
    }

    @Test("lists regular files and links to them, nothing else")
    func names() throws {
        try folder.write("b.ebb", [1])
        try folder.write("a.ebb.partial-1", [1])
        try folder.write(".hidden.ebb", [1])
        try FileManager.default.createDirectory(atPath: folder.file("folder.ebb"), withIntermediateDirectories: true)
        #expect(mkfifo(folder.file("pipe.ebb"), 0o600) == 0)
        #expect(symlink("b.ebb", folder.file("link.ebb")) == 0)
        #expect(symlink("nothing", folder.file("broken.ebb")) == 0)
        #expect(try store.names() == ["b", "link"])
    }

    @Test("that is missing, or cannot be read, is an error with its reason")
    func unreadable() throws {
        let missing = #expect(throws: FormatError.self) { try ModelStore(folder: folder.file("none")).names() }
        #expect(missing?.description.contains("there is no folder") == true)
        try folder.write("file", [1])
        let file = #expect(throws: FormatError.self) { try ModelStore(folder: folder.file("file")).names() }
        #expect(file?.description.contains("Not a directory") == true)
    }

    @Test("A pipe in a model's place is refused at once, in every reader", arguments: ["x.ebb", "x.gguf", "folder"])
    func pipe(name: String) throws {
        if name == "folder" {
            let bert = try TinyBert().folder()
            for file in ["config.json", "tokenizer.json", "model.safetensors"] {
                let path = bert.file(file)
                try FileManager.default.moveItem(atPath: path, toPath: path + ".away")
                mkfifo(path, 0o600)
                let error = #expect(throws: FormatError.self) { try ModelSources.open(bert.path) }
                #expect(error?.description.contains("not a regular file") == true, "\(file)")
                unlink(path)
                try FileManager.default.moveItem(atPath: path + ".away", toPath: path)
            }
            return
        }
        #expect(mkfifo(folder.file(name), 0o600) == 0)
        let error = #expect(throws: FormatError.self) { try ModelSources.open(folder.file(name)) }
        #expect(error?.description.contains("not a regular file") == true)
    }

    @Test("What killed imports have left is removed; what is being written stays, and links are not followed")
    func leftovers() throws {
        try folder.write("dead.ebb.partial-abc", [1])
        try folder.write("old.ebb.unchecked", [1])
        try folder.write("model.ebb", [1])
        try folder.write("target", [1])
        #expect(symlink("target", folder.file("link.ebb.partial-1")) == 0)
        let shape = TensorShape(name: "v", layout: .vector, n: 4, k: 1)
        var writer: EbbWriter? = try EbbWriter(
            destination: folder.file("live.ebb"), metadata: MetadataEncoder(), shapes: [shape])
        let live = try #require(folder.names.first { $0.hasPrefix("live.ebb.partial-") })
        #expect(store.removeLeftovers() == 2)
        #expect(folder.names == ["link.ebb.partial-1", live, "model.ebb", "target"].sorted())
        try [UInt8](repeating: 0, count: 16).withUnsafeBytes { try writer?.append($0) }
        try writer?.finish()
        writer = nil
        #expect(folder.names.contains("live.ebb") && !folder.names.contains(live))
    }

    @Test("A writer removes what a killed writer of the same name has left")
    func sameName() throws {
        try folder.write("m.ebb.partial-dead", [1])
        try folder.write("other.ebb.partial-dead", [1])
        let writer = try EbbWriter(destination: folder.file("m.ebb"), metadata: MetadataEncoder(), shapes: [])
        withExtendedLifetime(writer) {
            #expect(!folder.names.contains("m.ebb.partial-dead") && folder.names.contains("other.ebb.partial-dead"))
        }
    }
}
