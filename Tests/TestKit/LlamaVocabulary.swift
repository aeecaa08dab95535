import Foundation
import ModelFormat

/// The vocabularies that llama.cpp tests its tokenizers with: GGUF files without weights, fetched by `make test`
/// (scripts/fetch-llama) into the cache.
public enum LlamaVocabulary: String, CaseIterable, Sendable {
    case bertBGE = "bert-bge"
    case commandR = "command-r"
    case deepseekCoder = "deepseek-coder"
    case deepseekLLM = "deepseek-llm"
    case falcon
    case gemma4 = "gemma-4"
    case gpt2 = "gpt-2"
    case llamaBPE = "llama-bpe"
    case llamaSPM = "llama-spm"
    case mpt
    case phi3 = "phi-3"
    case qwen2
    case qwen35
    case refact
    case starcoder
    // Those without expected tokens.
    case aquila
    case baichuan
    case gptNeoX = "gpt-neox"
    case nomicBertMoE = "nomic-bert-moe"

    /// Those that come with texts and the tokens of each, as Hugging Face's tokenizers made them.
    public static let withTexts = allCases.prefix { $0 != .aquila }

    /// - Throws: where it has not been fetched.
    public var path: String {
        get throws {
            let path = "\(FetchedFiles.llamaModels)/ggml-vocab-\(rawValue).gguf"
            guard FileManager.default.fileExists(atPath: path) else {
                throw FormatError("\(path) is missing: `make test` fetches it (scripts/fetch-llama)")
            }
            return path
        }
    }

    /// A tokenizer.json that Hugging Face's tokenizers have written (scripts/tokenizer-references).
    public static func tokenizerJSON(_ folder: String, file: String = "tokenizer.json") throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: "\(FetchedFiles.cache)/tokenizers/\(folder)/\(file)")))
    }

    /// What Hugging Face's tokenizers make of random texts (scripts/tokenizer-references).
    public static func references<T: Decodable>(_ type: T.Type) throws -> [T] {
        try lines(type, "references.jsonl")
    }

    /// The same for tokenizers with each step that a tokenizer.json may have.
    public static func pipelines<T: Decodable>(_ type: T.Type) throws -> [T] {
        try lines(type, "pipelines/lines.jsonl")
    }

    /// What they make of single characters.
    public static func characters<T: Decodable>(_ type: T.Type) throws -> [T] {
        try lines(type, "pipelines/characters.jsonl")
    }

    private static func lines<T: Decodable>(_ type: T.Type, _ name: String) throws -> [T] {
        let path = "\(FetchedFiles.cache)/tokenizers/\(name)"
        guard FileManager.default.fileExists(atPath: path) else {
            throw FormatError("\(path) is missing: `make test` makes it (scripts/tokenizer-references)")
        }
        return try Reference.lines(type, URL(fileURLWithPath: path))
    }

    public var metadata: Metadata { get throws { try GGUFFile(path: try path).metadata } }

    /// Texts and the tokens of each, without BOS and special tokens.
    public func expectations() throws -> [(text: String, ids: [Int32])] {
        func read(_ ending: String) throws -> String {
            String(decoding: try Data(contentsOf: URL(fileURLWithPath: try path + ending)), as: UTF8.self)
        }
        var texts = try read(".inp").components(separatedBy: "\n__ggml_vocab_test__\n")
        // What follows the last mark is no text where it is empty.
        if texts.last?.isEmpty == true { texts.removeLast() }
        let lines = try read(".out").split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count - 1 == texts.count, lines.last?.isEmpty == true else {
            throw FormatError("\(rawValue): \(texts.count) texts, but \(lines.count - 1) lines of tokens")
        }
        return zip(texts, lines).map { text, line in (text, line.split(separator: " ").compactMap { Int32($0) }) }
    }

    /// A llama of random weights with this vocabulary.
    public func tinyModel() throws -> [UInt8] {
        let metadata = try metadata
        let count = Vocabulary.count(metadata) ?? 0
        return TinyLlama.gguf(layers: 1, vocabulary: count, hidden: 32) { builder in
            builder.pairs.removeAll { $0.0.hasPrefix("tokenizer.") }
            for key in metadata.keys where key.hasPrefix("tokenizer.") || key == "general.name" {
                if let value = metadata[key].flatMap(Self.copy) { builder.pairs.append((key, value)) }
            }
        }
    }

    private static func copy(_ value: MetadataValue) -> GGUFBuilder.Value? {
        switch value {
        case .unsigned(let number): .uint32(UInt32(clamping: number))
        case .signed(let number): .int32(Int32(clamping: number))
        case .float(let number): .float32(Float(number))
        case .bool(let flag): .bool(flag)
        case .string(let text): .string(text)
        case .array(let array):
            if array.isStrings {
                .strings((0..<array.count).map { String(decoding: array.string($0), as: UTF8.self) })
            } else if let numbers = array.integers() {
                .int32s(numbers.map { Int32(clamping: $0) })
            } else {
                array.floats().map { .float32s($0) }
            }
        }
    }
}
