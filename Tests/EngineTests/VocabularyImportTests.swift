import Engine
import ModelFormat
import TestKit
import Testing
import Text

@Suite("Import of models with other vocabularies")
struct VocabularyImportTests {
    @Test("A model with any of llama.cpp's vocabularies passes import's checks", arguments: LlamaVocabulary.allCases)
    func passesChecks(vocabulary: LlamaVocabulary) throws {
        let folder = try TemporaryFolder()
        let source = try GGUFFile(path: try folder.write("in.gguf", try vocabulary.tinyModel()))
        try ModelFamilies.check(source)
        try ModelImport(GGUFSource(source)).write(
            to: folder.file("out.ebb"),
            checking: { imported in
                try ModelFamilies.check(imported)
                #expect(try Tokenizer(imported.metadata).vocabularySize == Vocabulary.count(source.metadata))
            })
    }
}
