import ModelFormat
import Text

/// Texts that a model wants before others, by what they are for (`query`, `passage`), as sentence-transformers has them.
public struct EmbeddingPrompts: Sendable {
    private let texts: [String: String]
    /// What stands before a text where nothing is said.
    private let usual: String?

    /// - Throws: ``FormatError`` where names and texts contradict each other.
    init(_ metadata: Metadata) throws {
        func list(_ key: String) throws -> [String] {
            guard metadata[key] != nil else { return [] }
            guard let array = metadata.array(key), array.isStrings, array.count <= 256 else {
                throw FormatError("\(key) is no list of at most 256 texts")
            }
            return (0..<array.count).map { String(decoding: Array(array.string($0)), as: UTF8.self) }
        }
        let (names, texts) = (try list("ebb.prompt.names"), try list("ebb.prompt.texts"))
        guard names.count == texts.count, Set(names).count == names.count,
            texts.allSatisfy({ $0.utf8.count <= 1 << 16 })
        else { throw FormatError("ebb.prompt.names and ebb.prompt.texts do not belong together") }
        self.texts = Dictionary(zip(names, texts)) { first, _ in first }
        usual = metadata.string("ebb.prompt.default")
        guard usual.map({ self.texts[$0] != nil }) ?? true else {
            throw FormatError("ebb.prompt.default names no prompt of the model")
        }
    }

    /// Checks that each prompt leaves room for a text.
    /// - Parameter limit: tokens that the model takes.
    /// - Throws: ``FormatError``.
    func demandRoom(_ tokenizer: Tokenizer, limit: Int) throws {
        for (name, text) in texts.sorted(by: { $0.key < $1.key }) where !text.isEmpty {
            let count = tokenizer.encode(text, addSpecial: true, parseSpecial: false).count
            guard count >= limit else { continue }
            throw FormatError(
                "the prompt \"\(name.prefix(80))\" has \(count) tokens and the model takes \(limit): nothing would be left of "
                    + "a text; shorten it in config_sentence_transformers.json")
        }
    }

    /// Whether there are any.
    var isEmpty: Bool { texts.isEmpty }

    public var names: [String] { texts.keys.sorted() }

    /// The text of a prompt.
    /// - Parameter name: nil for the model's default, empty for no prompt.
    /// - Throws: ``EngineError`` for a name that the model does not know.
    public func text(_ name: String?) throws -> String {
        guard let name = name ?? usual, !name.isEmpty else { return "" }
        if let text = texts[name] { return text }
        let known = texts.isEmpty ? "it has none" : "it has \(names.joined(separator: ", "))"
        throw EngineError("the model has no prompt \"\(name.prefix(80))\": \(known)")
    }
}
