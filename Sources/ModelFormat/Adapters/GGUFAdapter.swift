/// A LoRA adapter as a GGUF file: for each weight NAME the tensors NAME.lora_a [rank, k] and NAME.lora_b [n, rank], and one
/// alpha; B A counts alpha / rank times, or once where alpha is 0 (https://github.com/ggml-org/llama.cpp,
/// `convert_lora_to_gguf.py`).
enum GGUFAdapter {
    private static let alphaKey = "adapter.lora.alpha"
    /// What is known of an adapter; other keys of these prefixes would be left out.
    private static let known: Set<String> = [
        "adapter.type", alphaKey, "adapter.lora.task_name", "adapter.lora.prompt_prefix",
    ]

    /// - Parameter architecture: of the model.
    static func parts(_ file: GGUFFile, _ architecture: String) throws -> [AdapterPart] {
        let metadata = file.metadata
        guard AdapterSource.isAdapter(metadata) else {
            throw FormatError("\(file.path) is no adapter (its general.type says so): ebbctl import takes models")
        }
        guard metadata.string("adapter.type") == "lora" else {
            throw FormatError(
                "\(file.path): an adapter of the type \"\((metadata.string("adapter.type") ?? "none").prefix(80))\" is not "
                    + "supported (lora is)")
        }
        if let key = metadata.keys.filter({ $0.hasPrefix("adapter.") && !known.contains($0) }).min() {
            throw FormatError("\(file.path): Ebb does not know \(key), and would compute as if it were not there")
        }
        try AdapterFit.demandFamily(metadata.string("general.architecture"), architecture, path: file.path)
        guard let alpha = metadata.float(alphaKey), alpha.isFinite else {
            throw FormatError("\(file.path): \(alphaKey) is missing or no number")
        }
        return try pairs(file).map { weight, a, b in
            AdapterPart(
                weight: weight, a: a, b: b, factor: alpha == 0 ? 1 : alpha / Float(max(a.n, 1)))
        }
    }

    private static func pairs(_ file: GGUFFile) throws -> [(weight: String, a: AdapterPart.Rows, b: AdapterPart.Rows)] {
        let source = GGUFSource(file)
        let byName = Dictionary(source.tensors.map { ($0.name, $0) }) { first, _ in first }
        var left = Set(byName.keys)
        let found = try byName.keys.filter { $0.hasSuffix(AdapterSource.suffixA) }.map { name in
            let weight = String(name.dropLast(AdapterSource.suffixA.count))
            let other = weight + AdapterSource.suffixB
            guard let a = byName[name], let b = byName[other] else {
                throw FormatError("\(file.path): \(name) has no counterpart \(other)")
            }
            left.subtract([name, other])
            return (weight, try rows(a, source), try rows(b, source))
        }
        if let other = left.min() {
            throw FormatError("\(file.path): the tensor \(other) is no part of a LoRA adapter; it would be left out")
        }
        return found
    }

    private static func rows(_ tensor: SourceTensor, _ source: GGUFSource) throws -> AdapterPart.Rows {
        guard !tensor.isVector else { throw FormatError("\(source.path): \(tensor.name) is no matrix") }
        return AdapterPart.Rows(n: tensor.n, k: tensor.k, isHalf: tensor.encoding == .f16) { row, out in
            try source.read(tensor, channel: row, into: out)
        }
    }
}
