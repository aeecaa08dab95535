import Engine
import Foundation
import Glibc
import ModelFormat
import Quantization
import TestKit
import Text

extension FuzzTarget {
    /// A GGUF file: opened, checked, imported, and used.
    static let gguf = FuzzTarget("gguf", longest: 16384) {
        TinyFiles.ggufs()
    } run: { bytes in
        let file = try GGUFFile(path: try Scratch.write("in.gguf", bytes))
        try? ModelFamilies.check(file)
        try importAndUse(GGUFSource(file))
    }

    /// The weights of a folder.
    static let safetensors = FuzzTarget("safetensors", longest: 16384) {
        [try TinyFiles.bert.safetensors()]
    } run: { bytes in
        try TinyFiles.lay(weights: bytes, in: "safetensors")
        try importAndUse(try ModelSources.open("\(Scratch.folder)/safetensors"))
    }

    /// The small files of a folder: config.json, 1_Pooling/config.json, sentence_bert_config.json, modules.json.
    static let folder = FuzzTarget("folder") {
        let config = String(decoding: try JSONSerialization.data(withJSONObject: TinyFiles.bert.config), as: UTF8.self)
        let pooling = #"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#
        let modules =
            #"[{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Normalize"}]"#
        return [joined(config, pooling, #"{"max_seq_length": 32}"#, modules), joined(config)]
    } run: { bytes in
        let names = ["config.json", "1_Pooling/config.json", "sentence_bert_config.json", "modules.json"]
        try TinyFiles.lay(in: "folder")
        let texts = parts(bytes)
        for (index, name) in names.enumerated() {
            if index < texts.count, !texts[index].isEmpty {
                _ = try Scratch.write("folder/\(name)", Array(texts[index].utf8))
            } else {
                unlink("\(Scratch.folder)/folder/\(name)")
            }
        }
        try importAndUse(try ModelSources.open("\(Scratch.folder)/folder"))
    }

    /// tokenizer.json, in a folder whose other files fit it.
    static let tokenizer = FuzzTarget("tokenizer") {
        [try TinyFiles.tokenizer(), try TinyFiles.tokenizer(options: true)]
    } run: { bytes in
        try TinyFiles.lay(in: "tokenizer")
        let json = try? JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any]
        let count = ((json?["model"] as? [String: Any])?["vocab"] as? [String: Any])?.count
        var config = TinyFiles.bert.config
        if let count { config["vocab_size"] = count }
        _ = try Scratch.write(
            "tokenizer/config.json", Array(try JSONSerialization.data(withJSONObject: config)))
        _ = try Scratch.write("tokenizer/tokenizer.json", bytes)
        try importAndUse(try ModelSources.open("\(Scratch.folder)/tokenizer"))
    }

    /// A container. Its header's sum is mended, so that what lies behind it is reached.
    static let container = FuzzTarget("container", longest: 65536) {
        try TinyFiles.containers()
    } run: { bytes in
        if let file = try? EbbFile(path: try Scratch.write("raw.ebb", bytes)) { try? file.verify() }
        try use(try EbbFile(path: try Scratch.write("in.ebb", mended(bytes))))
    }

    private static func importAndUse(_ source: any ModelSource) throws {
        let out = "\(Scratch.folder)/out.ebb"
        defer { unlink(out) }
        try ModelImport(source).write(to: out)
        let file = try EbbFile(path: out)
        try file.verify()
        try use(file)
    }

    private static let pool = try? WorkerPool(threads: 1)
    private static let kernels = try? Kernels.fromEnvironment()

    /// Everything that a daemon does with a model, once.
    private static func use(_ file: EbbFile) throws {
        try? file.verify()
        if let tokenizer = try? Tokenizer(file.metadata) {
            let ids = tokenizer.encode("ab ba\n<s>é", addSpecial: true, parseSpecial: true)
            _ = tokenizer.decode(ids + [-1, .max], special: true)
            _ = ChatTemplate.read(file.metadata, tokenizer: tokenizer)
        }
        guard let pool, let kernels else { return }
        if EncoderModel.isEncoder(file) {
            let model = try EncoderModel(file, pool: pool, kernels: kernels)
            _ = try model.runEach([EncoderText(model.tokens("a b")), model.pair("a", "b")])
            return
        }
        let options = ModelOptions(contextLimit: 64, sequences: 1)
        let model = try DecoderModel(file, pool: pool, kernels: kernels, options: options)
        let sequence = model.makeSequence()
        for tokens: [Int32] in [[0, 1, 0], [1]] {
            try model.run([StepInput(sequence: sequence, tokens: tokens, logits: .last)]) { _, _, _ in }
        }
        try model.expand(0)
        try model.run([StepInput(sequence: sequence, tokens: [1], logits: .last)]) { _, _, _ in }
    }

    /// The same container with a size and a sum in its header that fit it (docs/ebb-format.md).
    private static func mended(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.count >= 64 else { return bytes }
        var bytes = bytes
        func put(_ value: UInt64, at: Int) {
            for i in 0..<8 { bytes[at + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
        }
        func word(_ at: Int) -> UInt64 { (0..<8).reduce(0) { $0 | UInt64(bytes[at + $1]) << (8 * $1) } }
        put(UInt64(bytes.count), at: 16)
        let (end, overflow) = word(32).addingReportingOverflow(word(40))
        guard !overflow, end <= UInt64(bytes.count - 64) else { return bytes }
        var sum = Checksum()
        bytes.withUnsafeBytes { all in
            sum.update(UnsafeRawBufferPointer(rebasing: all[..<48]))
            sum.update(UnsafeRawBufferPointer(rebasing: all[64..<64 + Int(end)]))
        }
        put(sum.value, at: 48)
        return bytes
    }
}
