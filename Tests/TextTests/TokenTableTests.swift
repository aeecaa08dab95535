import ModelFormat
import Testing
import TestKit
import Text

@Suite("Token tables")
struct TokenTableTests {
    private func write(_ metadata: MetadataEncoder, _ folder: TemporaryFolder) throws -> EbbFile {
        let path = folder.file("model.ebb")
        try EbbWriter(destination: path, metadata: metadata, shapes: []).finish()
        return try EbbFile(path: path)
    }

    @Test("An import holds tables in place of GGUF's lists, and every text has the same tokens")
    func importedTables() throws {
        let folder = try TemporaryFolder()
        let source = try GGUFFile(path: try folder.write("in.gguf", TinyLlama.gguf()))
        try ModelImport(GGUFSource(source)).write(to: folder.file("out.ebb"))
        let imported = try EbbFile(path: folder.file("out.ebb")).metadata
        #expect(imported["tokenizer.ggml.tokens"] == nil)
        #expect(imported["tokenizer.ggml.merges"] == nil)
        #expect(Vocabulary.count(imported) == Vocabulary.count(source.metadata))
        let (a, b) = (try Tokenizer(source.metadata), try Tokenizer(imported))
        for text in ["abcabc", "", "c b a", "<s>abc</s>", "ab\u{fffd}ß"] {
            for parseSpecial in [false, true] {
                let ids = a.encode(text, addSpecial: true, parseSpecial: parseSpecial)
                #expect(b.encode(text, addSpecial: true, parseSpecial: parseSpecial) == ids)
                #expect(b.decode(ids, special: true) == a.decode(ids, special: true))
            }
        }
    }

    @Test("A container with GGUF's lists is read, and gets tables when it is written anew")
    func oldContainer() throws {
        let folder = try TemporaryFolder()
        var old = MetadataEncoder()
        old.set("tokenizer.ggml.model", "gpt2")
        old.set("tokenizer.ggml.pre", "smollm")
        old.set("tokenizer.ggml.tokens", ["a", "b", "ab"])
        old.set("tokenizer.ggml.merges", ["a b"])
        let file = try write(old, folder)
        #expect(try Tokenizer(file.metadata).encode("abb", addSpecial: false, parseSpecial: false) == [2, 1])
        try ModelImport(EbbSource(file)).write(to: folder.file("new.ebb"))
        let new = try EbbFile(path: folder.file("new.ebb")).metadata
        #expect(new["tokenizer.ggml.tokens"] == nil)
        #expect(try Tokenizer(new).encode("abb", addSpecial: false, parseSpecial: false) == [2, 1])
    }

    @Test("Merges are found in a table of the present hash and in one of older containers")
    func mergeTables() throws {
        let folder = try TemporaryFolder()
        // Token 1 before token 0: slot 1 by the present hash of four slots, slot 0 by the older one.
        for (key, table) in [("merge_slots", [-1, 0, -1, -1]), ("merge_table", [0, -1, -1, -1])] as [(String, [Int32])]
        {
            var metadata = MetadataEncoder()
            metadata.set("tokenizer.ggml.model", "gpt2")
            metadata.set("tokenizer.ggml.pre", "smollm")
            metadata.set("tokenizer.ggml.tokens", ["b", "a", "ab"])
            metadata.set("tokenizer.ebb.merges", [1, 0, 2])
            metadata.set("tokenizer.ebb.\(key)", table)
            let tokenizer = try Tokenizer(try write(metadata, folder).metadata)
            #expect(tokenizer.encode("abba", addSpecial: false, parseSpecial: false) == [2, 0, 1], "\(key)")
        }
    }

    @Test("Of special tokens the longest is found, of two with the same text the first")
    func longestSpecial() throws {
        let folder = try TemporaryFolder()
        let tokens = ["<", "<a", "<a>", "<a>b", "<a>", "x", ">", "b", "a"]
        let kinds: [Int32] = [1, 4, 4, 4, 4, 1, 1, 1, 1]
        let bytes = TinyLlama.gguf { builder in
            builder.pairs.removeAll {
                $0.0.hasSuffix(".tokens") || $0.0.hasSuffix(".merges") || $0.0.hasSuffix("_type")
            }
            builder.pairs.append(("tokenizer.ggml.tokens", .strings(tokens)))
            builder.pairs.append(("tokenizer.ggml.token_type", .int32s(kinds)))
            builder.pairs.append(("tokenizer.ggml.merges", .strings([])))
        }
        let tokenizer = try Tokenizer(try GGUFFile(path: try folder.write("in.gguf", bytes)).metadata)
        #expect(tokenizer.encode("<a>bx<a>a<ab<", addSpecial: false, parseSpecial: false) == [3, 5, 2, 8, 1, 7, 0])
    }

    @Test("Tables of any content never trap, and never make a token outside the vocabulary")
    func hostileTables() throws {
        let folder = try TemporaryFolder()
        var random = TestRandom(seed: 77)
        for round in 0..<200 {
            // Small numbers hit each other, large ones are out of every range.
            func numbers(_ count: Int) -> [Int32] {
                (0..<count).map { _ in
                    Bool.random(using: &random)
                        ? Int32.random(in: -3..<20, using: &random) : .random(in: .min ... .max, using: &random)
                }
            }
            var metadata = MetadataEncoder()
            metadata.set("tokenizer.ggml.model", round % 2 == 0 ? "gpt2" : "wordpiece")
            metadata.set("tokenizer.ggml.pre", "qwen2")
            metadata.set(
                "tokenizer.ebb.token_bytes", Numbers((0..<24).map { _ in UInt8.random(in: 95..<103, using: &random) }))
            metadata.set("tokenizer.ebb.token_ends", Numbers(numbers(12).map { UInt32(bitPattern: $0) }))
            metadata.set(
                "tokenizer.ebb.token_kinds", Numbers((0..<12).map { _ in UInt8.random(in: 0..<8, using: &random) }))
            metadata.set("tokenizer.ebb.token_table", numbers(16))
            metadata.set("tokenizer.ebb.special", numbers(7))
            metadata.set("tokenizer.ebb.merges", numbers(3 * 5))
            metadata.set("tokenizer.ebb.\(round % 4 < 2 ? "merge_table" : "merge_slots")", numbers(8))
            metadata.set("tokenizer.ggml.unknown_token_id", UInt32(3))
            let tokenizer = try Tokenizer(try write(metadata, folder).metadata)
            let ids = tokenizer.encode("abcdefg_`a`b cde fgß", addSpecial: true, parseSpecial: round % 3 == 0)
            #expect(ids.allSatisfy { (0..<12).contains($0) })
            _ = tokenizer.decode((-2..<14).map { Int32($0) }, special: true)
        }
    }

    @Test(
        "Tables that contradict each other are refused",
        arguments: ["token_ends", "token_table", "merge_slots", "merges"])
    func contradictingTables(damaged: String) throws {
        let folder = try TemporaryFolder()
        var metadata = MetadataEncoder()
        metadata.set("tokenizer.ggml.model", "gpt2")
        metadata.set("tokenizer.ggml.pre", "qwen2")
        metadata.set("tokenizer.ebb.token_bytes", Numbers([UInt8](repeating: 97, count: 2)))
        metadata.set("tokenizer.ebb.token_ends", Numbers<UInt32>(damaged == "token_ends" ? [1, 2, 2] : [1, 2]))
        metadata.set("tokenizer.ebb.token_kinds", Numbers<UInt8>([1, 1]))
        metadata.set("tokenizer.ebb.token_table", [Int32](repeating: -1, count: damaged == "token_table" ? 3 : 4))
        metadata.set("tokenizer.ebb.special", [Int32]())
        metadata.set("tokenizer.ebb.merges", [Int32](repeating: 0, count: damaged == "merges" ? 4 : 3))
        metadata.set("tokenizer.ebb.merge_slots", [Int32](repeating: -1, count: damaged == "merge_slots" ? 0 : 4))
        let file = try write(metadata, folder)
        #expect(throws: FormatError.self) { try Tokenizer(file.metadata) }
    }
}
