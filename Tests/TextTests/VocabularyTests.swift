import ModelFormat
import Testing
import TestKit
import Text

/// The vocabularies of llama.cpp, each imported with a tiny random model around it.
@Suite("Vocabularies of llama.cpp")
struct VocabularyTests {
    /// The tokenizer of the file, and that of its import.
    private func tokenizers(_ vocabulary: LlamaVocabulary) throws -> [Tokenizer] {
        let folder = try TemporaryFolder()
        let source = try GGUFFile(path: try folder.write("in.gguf", try vocabulary.tinyModel()))
        try ModelImport(GGUFSource(source)).write(to: folder.file("out.ebb"))
        let imported = try EbbFile(path: folder.file("out.ebb"))
        return [try Tokenizer(source.metadata), try Tokenizer(imported.metadata)]
    }

    @Test("Every text becomes exactly the expected tokens", arguments: LlamaVocabulary.withTexts)
    func exactTokens(vocabulary: LlamaVocabulary) throws {
        let expectations = try vocabulary.expectations()
        #expect(expectations.count > 40)
        for tokenizer in try tokenizers(vocabulary) {
            for (text, ids) in expectations {
                let found = tokenizer.encode(text, addSpecial: false, parseSpecial: false)
                #expect(found == ids, "\(text.debugDescription)")
            }
        }
    }

    private struct Line: Decodable {
        let vocabulary, text: String
        let ids: [Int32]
    }

    @Test(
        "Any text becomes the tokens that Hugging Face's tokenizers make of it",
        arguments: [
            LlamaVocabulary.aquila, .gptNeoX, .baichuan, .nomicBertMoE, .gpt2, .mpt, .starcoder, .refact, .commandR,
            .llamaBPE,
            .qwen2, .qwen35,
        ])
    func otherTokens(vocabulary: LlamaVocabulary) throws {
        let lines = try LlamaVocabulary.references(Line.self).filter { $0.vocabulary == vocabulary.rawValue }
        #expect(lines.count > 100)
        for tokenizer in try tokenizers(vocabulary) {
            for line in lines {
                let found = tokenizer.encode(line.text, addSpecial: false, parseSpecial: false)
                #expect(found == line.ids, "\(line.text.debugDescription)")
            }
        }
    }
}
