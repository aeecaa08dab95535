/// The pre-tokenizers of a tokenizer.json that split text for byte-level BPE, as patterns whose matches are pieces.
enum SplitJSON {
    /// GPT-2's pattern, which `ByteLevel` has unless it is told not to split.
    private static let byteLevel = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

    static func patterns(_ file: JSONMembers) throws -> [String] {
        guard let splitter = try file.members("pre_tokenizer") else {
            throw file.refusal("pre_tokenizer", "is missing: only byte-level BPE is supported")
        }
        var patterns: [String] = []
        var isByteLevel = false
        for step in try JSONMembers.sequence(splitter, "pretokenizers") {
            guard !isByteLevel else { throw step.refusal("type", "follows ByteLevel, which is not supported") }
            switch try step.string("type") {
            case "ByteLevel":
                isByteLevel = true
                try step.allow(["type", "add_prefix_space", "trim_offsets", "use_regex"])
                if try step.bool("add_prefix_space") ?? true {
                    throw step.refusal("add_prefix_space", "is true, which is not supported")
                }
                if try step.bool("use_regex") ?? true { patterns.append(byteLevel) }
            case "Digits":
                try step.allow(["type", "individual_digits"])
                patterns.append(try step.bool("individual_digits") == true ? #"\p{N}"# : #"\p{N}+"#)
            case "Split": patterns.append(try split(step))
            case let type:
                throw step.refusal("type", "is \"\(type ?? "none")\", which is not supported with BPE")
            }
        }
        guard isByteLevel else { throw splitter.refusal("type", "is not ByteLevel: only byte-level BPE is supported") }
        return patterns
    }

    private static func split(_ step: JSONMembers) throws -> String {
        try step.allow(["type", "pattern", "behavior", "invert"])
        let behavior = try step.string("behavior") ?? "none"
        guard behavior == "Isolated", try step.bool("invert") != true else {
            throw step.refusal("behavior", "is \"\(behavior)\" or inverted, which is not supported (Isolated is)")
        }
        guard let pattern = try step.members("pattern") else { throw step.refusal("pattern", "is missing") }
        if let regex = try pattern.string("Regex") { return regex }
        guard let text = try pattern.string("String"), !text.isEmpty else {
            throw pattern.refusal("String", "is missing")
        }
        // A text stands for itself, also where it has what patterns use.
        return text.unicodeScalars.map { "\\x{\(String($0.value, radix: 16))}" }.joined()
    }
}
