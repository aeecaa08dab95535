/// How the tokenizers that `tokenizer.ggml.pre` names split text, and what else sets them apart. A new name is a line.
struct BytePairRules: Sendable {
    let steps: [PreTokenizer.Step]
    /// A piece that is a token stays whole, whatever the merges make of it.
    var ignoresMerges = false
    /// Begins texts with BOS where the file does not say.
    var addsBOS = false
    /// The models' own tokenizers bring text to Unicode's form NFC first.
    var composes = false

    /// - Returns: nil for an unknown name.
    init?(named name: String) {
        guard let rules = Self.table[name] else { return nil }
        self = rules
    }

    static var names: some Sequence<String> { table.keys }

    init(_ patterns: [String], ignoresMerges: Bool = false, addsBOS: Bool = false, composes: Bool = false) {
        self.init(
            patterns.map { .init(pattern: $0) }, ignoresMerges: ignoresMerges, addsBOS: addsBOS, composes: composes)
    }

    private init(
        _ steps: [PreTokenizer.Step], ignoresMerges: Bool = false, addsBOS: Bool = false, composes: Bool = false
    ) {
        (self.steps, self.ignoresMerges, self.addsBOS, self.composes) = (steps, ignoresMerges, addsBOS, composes)
    }

    /// Names as llama.cpp's files have them (`llama-vocab.cpp` of llama-cpp-python 0.3.36).
    private static let table: [String: BytePairRules] = {
        typealias P = SplitPatterns
        var table: [String: BytePairRules] = [:]
        func add(_ names: String, _ rules: BytePairRules) {
            for name in names.split(separator: " ") { table[String(name)] = rules }
        }
        let digits = #"\p{N}"#
        let threeDigits = #"\p{N}{1,3}"#
        let lines = #"[^\n]+|[\n]+"#
        let punctuation = #"[\p{P}\$\+<=>\^~\|]+"#
        add("default", .init([punctuation, P.gpt2, #"\p{N}+"#, "[0-9][0-9][0-9]"]))
        add("falcon", .init([#"[\p{P}\$\+<=>\^~\|`]+"#, P.gpt2, "[0-9][0-9][0-9]"]))
        add(
            "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum jina-v1-en jina-v2-code "
                + "roberta-bpe jais trillion granite-docling exaone4", .init([P.gpt2]))
        add("mpt olmo modern-bert", .init([P.gpt2], composes: true))
        add("starcoder refact smollm codeshell exaone minerva-7b mellum2", .init([digits, P.gpt2]))
        add("command-r", .init([digits, P.gpt2], composes: true))
        add(
            "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
            .init([P.llama3], ignoresMerges: true, addsBOS: true))
        add("glm4 glm5", .init([P.llama3], ignoresMerges: true))
        add("dbrx smaug-bpe chatglm-bpe", .init([P.llama3]))
        add("jais-2", .init([P.jais2]))
        add("qwen2 deepseek-r1-qwen kormo f2llmv2", .init([P.qwen2], composes: true))
        add("stablelm2 megrez hunyuan solar-open grok-2", .init([P.qwen2]))
        add("laguna", .init([lines, P.qwen2]))
        add("qwen35", .init([P.qwen35]))
        add("ufakzeka", .init([P.withoutContractions]))
        add("minicpm5", .init([threeDigits, P.minicpm5], ignoresMerges: true))
        add("seed-coder", .init([P.seedCoder]))
        add("bailingmoe bailingmoe2 llada-moe", .init([P.bailing]))
        add("exaone-moe", .init([P.exaoneMoE]))
        add("tekken", .init([P.tekken], ignoresMerges: true, addsBOS: true))
        add("gpt-4o llama4 kanana2 talkie minimax-m2", .init([P.gpt4o]))
        add("granite-embed-multi-97m", .init([P.gpt4o], ignoresMerges: true))
        add("kimi-k2", .init([P.kimiK2]))
        add("youtu", .init([P.youtuAsian, P.youtuWords], ignoresMerges: true))
        add(
            "deepseek-llm",
            .init([
                #"[\r\n]"#, P.deepSeekLetters, P.deepSeekPunctuation, #"\s+$"#, P.deepSeekIdeographs, #"\p{N}+"#,
            ]))
        add("deepseek-coder", .init([#"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, P.deepSeekIdeographs, digits]))
        add(
            "deepseek-v3 hunyuan-dense joyai-llm hy_v4", .init([threeDigits, P.ideographsAndKana, P.deepSeekV3Words]))
        add("spark2_5", .init([threeDigits, P.ideographsAndKana, P.spark25Words, digits]))
        add("poro-chat bloom gpt3-finnish", .init([P.bloom]))
        add("viking", .init([P.bloom, digits]))
        add(
            "chameleon",
            .init(
                [
                    "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", #"([\t\n]|    |  )"#, digits,
                    #"[\p{P}!-/:-@\[-`{-~]"#, P.gpt2,
                ], addsBOS: true))
        add("superbpe", .init([.init(pattern: #"\p{N}+"#), .init(pattern: #"\d+"#, action: .groupByThree)]))
        add(
            "tiny_aya cohere2moe",
            .init([.init(pattern: #"\d+(?!\w)"#, action: .groupByThree), .init(pattern: P.gpt4o)]))
        add(
            "afmoe",
            .init([
                .init(pattern: #"\p{N}+"#, action: .groupByThree), .init(pattern: P.afmoeAsian),
                .init(pattern: P.deepSeekV3Words),
            ]))
        // Those whose tokens are text as it is, spaces written as U+2581.
        add("gemma4 granite-embed-multi-311m sarvam-moe", .init([lines]))
        add("whitespace", .init([#"\S+"#]))
        return table
    }()
}
