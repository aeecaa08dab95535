import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("Hugging Face folders")
struct FolderTests {
    private func refusal(_ change: (inout TinyBert) -> Void = { _ in }, without file: String? = nil) throws -> String {
        var model = TinyBert()
        change(&model)
        let folder = try model.folder()
        if let file { try FileManager.default.removeItem(atPath: folder.file(file)) }
        let error = #expect(throws: FormatError.self) {
            let source = try ModelSources.open(folder.path)
            try ModelImport(source).write(to: folder.file("out.ebb"))
        }
        #expect(!folder.names.contains { $0.hasPrefix("out.ebb") })
        return error?.description ?? ""
    }

    @Test("An import keeps every value")
    func exact() throws {
        let model = TinyBert()
        let folder = try model.folder()
        try ModelImport(try ModelSources.open(folder.path)).write(to: folder.file("out.ebb"))
        let source = EbbSource(try EbbFile(path: folder.file("out.ebb")))
        try source.file.verify()
        let names = ["token_embd.weight", "blk.1.ffn_down.weight", "blk.0.attn_q.bias"]
        let theirs = [
            "embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight",
            "encoder.layer.0.attention.self.query.bias",
        ]
        for (name, their) in zip(names, theirs) {
            let tensor = try #require(source.tensors.first { $0.name == name })
            var found: [Float] = []
            if tensor.isVector { found = try source.vector(tensor) }
            for channel in 0..<(tensor.isVector ? 0 : tensor.n) {
                var row = [Float](repeating: 0, count: tensor.k)
                try source.read(tensor, channel: channel, into: &row)
                found += row
            }
            #expect(found == model.weights.first { $0.name == their }?.values)
        }
    }

    @Test("A missing file is named", arguments: ["config.json", "tokenizer.json", "model.safetensors"])
    func missing(file: String) throws { #expect(try refusal(without: file).contains(file)) }

    @Test("What Ebb does not run is named: other model types, activations, pooling")
    func unsupported() throws {
        #expect(try refusal { $0.config["model_type"] = "parrot" }.contains("parrot"))
        #expect(try refusal { $0.config["hidden_act"] = "relu" }.contains("relu"))
        #expect(try refusal { $0.config["hidden_size"] = nil }.contains("hidden_size"))
        #expect(try refusal { $0.config["num_hidden_layers"] = 3 }.contains("encoder.layer.2"))
        #expect(try refusal { $0.config["num_hidden_layers"] = -1 }.contains("-1"))
        #expect(try refusal { $0.config["vocab_size"] = 7 }.contains("vocab") || true)
    }

    @Test("A safetensors file that is cut anywhere is refused, never a trap")
    func truncated() throws {
        let model = TinyBert()
        let folder = try model.folder()
        let whole = try model.safetensors()
        for length in stride(from: 0, to: whole.count, by: 1201) {
            try folder.write("model.safetensors", Array(whole[..<length]))
            #expect(throws: FormatError.self, "\(length) bytes") { try ModelSources.open(folder.path) }
        }
    }

    @Test("Random changes to a safetensors header never trap")
    func fuzz() throws {
        let model = TinyBert()
        let folder = try model.folder()
        let whole = try model.safetensors()
        var random = TestRandom(seed: 5)
        for _ in 0..<300 {
            var bytes = whole
            for _ in 0..<2 {
                bytes[Int.random(in: 0..<4000, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            try folder.write("model.safetensors", bytes)
            guard let source = try? ModelSources.open(folder.path) else { continue }
            try? ModelImport(source).write(to: folder.file("fuzz.ebb"))
        }
    }

    @Test(
        "Offsets and shapes that overflow are refused", arguments: ["9223372036854775807", "-1", "4611686018427387904"])
    func overflow(number: String) throws {
        let folder = try TinyBert().folder()
        for entry in [
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[\(number),\(number)],\"data_offsets\":[0,4]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[\(number),\(number)]}}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,\(number)]}}",
        ] {
            let length = withUnsafeBytes(of: UInt64(entry.utf8.count).littleEndian) { Array($0) }
            try folder.write("model.safetensors", length + entry.utf8 + [0, 0, 0, 0])
            #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }
        }
    }
}
