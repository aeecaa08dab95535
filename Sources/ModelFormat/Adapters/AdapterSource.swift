import Glibc

/// A LoRA adapter (Hu et al. 2021) in a format that Ebb reads, and the model that it is for.
public struct AdapterSource: ModelSource {
    public let path: String
    public let byteCount: Int
    public let format: String
    private let architecture, base: String
    private let parts: [String: AdapterPart]
    public let tensors: [SourceTensor]

    /// What `general.type` says of an adapter's file.
    public static let type = "adapter"
    /// What follows a weight's name in those of its two matrices, [rank, k] and [n, rank].
    public static let (suffixA, suffixB) = (".lora_a", ".lora_b")
    /// Ranks that are possible: 1 to this.
    public static let mostRank = 512

    /// - Parameters:
    ///   - path: a GGUF file, or a folder as PEFT writes it.
    ///   - model: what it is to be applied to.
    ///   - name: of that model.
    /// - Throws: ``FormatError`` where it holds something that Ebb would leave out, or does not fit the model.
    public init(path: String, for model: some ModelDescription, named name: String) throws {
        guard let architecture = model.metadata.string("general.architecture"), !Self.isAdapter(model.metadata) else {
            throw FormatError("\(model.path) is no model that an adapter could be for")
        }
        var info = stat()
        guard stat(path, &info) == 0 else { throw FormatError.system("cannot open \(path)") }
        let found: [AdapterPart]
        if info.st_mode & S_IFMT == S_IFDIR {
            let folder = try PEFTFolder(path, for: model, architecture)
            (found, byteCount, format) = (folder.parts, folder.byteCount, "peft")
        } else if path.hasSuffix(".safetensors") || path.hasSuffix(".bin") {
            throw FormatError("\(path): name the folder that holds it, with its adapter_config.json")
        } else {
            let file = try GGUFFile(path: path)
            found = try GGUFAdapter.parts(file, architecture)
            (byteCount, format) = (file.byteCount, "gguf")
        }
        if let twice = Dictionary(grouping: found, by: \.weight).first(where: { $1.count > 1 })?.key {
            throw FormatError("\(path): two of its modules are \(twice)")
        }
        for part in found where !part.factor.isFinite {
            throw FormatError("\(path): \(part.weight): its alpha is no number")
        }
        (self.path, self.architecture, base) = (path, architecture, name)
        let sorted = found.sorted { $0.weight < $1.weight }
        tensors = sorted.flatMap(\.tensors)
        _ = try AdapterFit.weights(tensors.map(\.shape), of: model, path: path)
        parts = Dictionary(sorted.map { ($0.weight, $0) }) { first, _ in first }
    }

    public static func isAdapter(_ metadata: Metadata) -> Bool { metadata.string("general.type") == type }

    /// The largest rank of its matrices.
    public var rank: Int { parts.values.reduce(0) { max($0, $1.a.n) } }
    /// Weights that it changes.
    public var weights: Int { parts.count }

    public func encodedMetadata(except: Set<String>) throws -> MetadataEncoder {
        var metadata = MetadataEncoder()
        metadata.set("general.type", Self.type)
        metadata.set("general.architecture", architecture)
        metadata.set("adapter.type", "lora")
        metadata.set("adapter.base", base)
        metadata.set("adapter.rank", UInt32(rank))
        return metadata
    }

    public func read(_ tensor: SourceTensor, channel: Int, into out: UnsafeMutablePointer<Float>) throws {
        let (suffixA, suffixB) = (Self.suffixA, Self.suffixB)
        if tensor.name.hasSuffix(suffixA), let part = parts[String(tensor.name.dropLast(suffixA.count))] {
            try part.a.read(channel, out)
        } else if tensor.name.hasSuffix(suffixB), let part = parts[String(tensor.name.dropLast(suffixB.count))] {
            try part.readB(channel, into: out)
        } else {
            throw FormatError("\(path): the tensor \(tensor.name) is missing")
        }
    }

    public func copy(_ tensor: SourceTensor, to writer: EbbWriter, progress: (Int) -> Void) throws {
        try copyFloats(tensor, as: tensor.encoding, to: writer, progress: progress)
    }

    /// Writes it as a container. `progress` hears a fraction, 0...1.
    /// - Throws: ``FormatError``; then no file is left.
    public func write(to destination: String, progress: (Double) -> Void = { _ in }) throws {
        var metadata = try encodedMetadata()
        metadata.setProvenance(self)
        let writer = try EbbWriter(destination: destination, metadata: metadata, shapes: tensors.map(\.shape))
        var done = 0
        let total = max(floatBytes, 1)
        for tensor in tensors {
            try copy(tensor, to: writer) { progress(Double(done + $0 * tensor.k * 4) / Double(total)) }
            done += tensor.floatBytes
        }
        try writer.finish()
        progress(1)
    }
}
