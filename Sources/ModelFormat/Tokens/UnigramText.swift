import Foundation

/// What a tokenizer.json with a Unigram model does to text before it: compiled replacements and U+2581 for spaces.
struct UnigramText: Sendable {
    private let map: [UInt8]?
    /// Spaces at both ends and more than one in a row go.
    private let mergesSpaces: Bool
    /// Of several spaces in a row one stays.
    private let collapsesSpaces: Bool
    private let addsSpacePrefix: Bool

    init(_ file: JSONMembers) throws {
        var map: [UInt8]?
        var (merges, collapses) = (false, false)
        if let normalizer = try file.members("normalizer") {
            for step in try JSONMembers.sequence(normalizer, "normalizers") {
                switch try step.string("type") {
                case "Precompiled" where map == nil && !collapses: map = try Self.map(step)
                case "Replace" where try Self.isMerging(step): collapses = true
                case let type: throw step.refusal("type", "is \"\(type ?? "none")\", which is not supported here")
                }
            }
        }
        var prefix: Bool?
        guard let splitter = try file.members("pre_tokenizer") else {
            throw file.refusal("pre_tokenizer", "is missing, which is not supported with Unigram")
        }
        for step in try JSONMembers.sequence(splitter, "pretokenizers") {
            switch try step.string("type") {
            // What splits at white space drops it, and Metaspace then puts one mark before each word.
            case "WhitespaceSplit" where prefix == nil: merges = true
            case "Metaspace" where prefix == nil: prefix = try Self.prefix(step)
            case let type: throw step.refusal("type", "is \"\(type ?? "none")\", which is not supported here")
            }
        }
        guard let prefix else { throw splitter.refusal("type", "is not Metaspace, which Unigram wants") }
        (self.map, mergesSpaces, collapsesSpaces, addsSpacePrefix) = (map, merges, collapses, prefix)
    }

    private static func map(_ step: JSONMembers) throws -> [UInt8] {
        guard let text = try step.string("precompiled_charsmap"), let data = Data(base64Encoded: text) else {
            throw step.refusal("precompiled_charsmap", "is no base64")
        }
        return Array(data)
    }

    private static func isMerging(_ step: JSONMembers) throws -> Bool {
        try step.members("pattern")?.string("Regex") == " {2,}" && step.string("content") == " "
    }

    private static func prefix(_ step: JSONMembers) throws -> Bool {
        try step.allow(["type", "replacement", "add_prefix_space", "prepend_scheme", "str_rep", "split"])
        guard try step.string("replacement") == "\u{2581}" else { throw step.refusal("replacement", "is not U+2581") }
        if try step.bool("split") == false { throw step.refusal("split", "is false, which is not supported") }
        let scheme = try step.string("prepend_scheme") ?? (step.bool("add_prefix_space") == false ? "never" : "always")
        guard scheme == "always" else {
            throw step.refusal("prepend_scheme", "is \"\(scheme)\", which is not supported")
        }
        return true
    }

    func encode(into metadata: inout MetadataEncoder) {
        if let map { metadata.set("tokenizer.ggml.precompiled_charsmap", Numbers(map)) }
        metadata.set("tokenizer.ggml.remove_extra_whitespaces", mergesSpaces)
        metadata.set("tokenizer.ggml.add_space_prefix", addsSpacePrefix)
        metadata.set("tokenizer.ebb.splits_words", true)
        metadata.set("tokenizer.ebb.collapses_spaces", collapsesSpaces)
    }
}
