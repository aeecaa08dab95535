import Engine
import ModelFormat
import TestKit
import Testing

@Suite("Adapters as PEFT and llama.cpp write them")
struct AdapterReferenceTests {
    private static func base(_ name: String) throws -> EbbFile {
        let folder = try TinyDecoder(name).folder()
        let file = folder.file("base.ebb")
        try ModelImport(try HuggingFaceFolder(path: folder.path)).write(to: file)
        return try EbbFile(path: file)
    }

    /// The largest difference from PEFT's logits, as a share of their range.
    private static func error(
        _ reference: AdapterReference, _ path: String, expanded: Bool = false
    ) throws -> Float {
        let base = try base(reference.model)
        let folder = try TemporaryFolder()
        try AdapterSource(path: path, for: base, named: "base").write(to: folder.file("adapter.ebb"))
        let file = try EbbFile(path: folder.file("adapter.ebb"))
        var worst: Float = 0
        for (prompt, tokens) in reference.tokens.enumerated() {
            let model = try DecoderModel(
                base, pool: try Models.pool(), kernels: try Kernels.fromEnvironment(),
                options: ModelOptions(contextLimit: max(tokens.count, 32), precision: .f32))
            var input = StepInput(sequence: model.makeSequence(), tokens: tokens, logits: .all)
            input.adapters = [AdapterUse(adapter: try Adapter(file, for: model), strength: 1)]
            var found: [[Float]] = []
            try model.run([input]) { _, token, logits in
                if reference.rows[prompt].contains(token) { found.append(Array(logits)) }
            }
            #expect(found.count == reference.logits[prompt].count)
            for (a, b) in zip(reference.logits[prompt], found) { worst = max(worst, shareOfRange(a, b)) }
        }
        return worst
    }

    /// Gemma 3, whose folder is imported here, is at 1.1e-4 without an adapter: a key that lies between two halves may be rounded the
    /// other way.
    private static func bound(_ name: String) -> Float { name == "gemma3" ? 2e-4 : 1e-4 }

    @Test("A folder of PEFT's gives PEFT's logits", arguments: AdapterReference.names)
    func folder(name: String) throws {
        let reference = try AdapterReference(name)
        let folder = try reference.folder()
        let error = try Self.error(reference, folder.path)
        #expect(error < Self.bound(name))
    }

    @Test("In 16 bits it is the same, which hold the values exactly", arguments: ["F16", "BF16"])
    func types(type: String) throws {
        let reference = try AdapterReference("llama", type: type)
        let folder = try reference.folder()
        #expect(try Self.error(reference, folder.path) < 1e-4)
    }

    @Test("A GGUF gives the same", arguments: AdapterReference.namesOfGGUF)
    func gguf(name: String) throws {
        let reference = try AdapterReference(name)
        let folder = try TemporaryFolder()
        let error = try Self.error(reference, try folder.write("adapter.gguf", try reference.gguf()))
        #expect(error < Self.bound(name))
    }
}
