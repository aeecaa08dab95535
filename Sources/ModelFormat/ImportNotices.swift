import Quantization

extension GGUFSource {
    /// What an import should say about the tensors' types, a sentence each: which take more room in a container, and in what
    /// width; which are rounded. No other type changes its size by more than a twentieth, and none its values.
    public var notices: [String] {
        let matrices = file.tensors.filter { $0.dimensions.count > 1 }
        var notices = Set(matrices.map(\.type)).sorted { $0.rawValue < $1.rawValue }.compactMap { type -> String? in
            guard let (bits, growth) = Self.growth(type) else { return nil }
            let count = matrices.count { $0.type == type }
            let tenths = Int((growth * 10).rounded())
            return "\(count) tensor\(count == 1 ? "" : "s") of the type \(type.name) \(count == 1 ? "takes" : "take") "
                + "\(tenths / 10).\(tenths % 10) x the room of the file, since Ebb runs \(count == 1 ? "it" : "them") in "
                + "\(bits) bits; no value changes"
        }
        let doubles = file.tensors.count { $0.type == .f64 }
        if doubles > 0 {
            notices.append("\(doubles) tensor\(doubles == 1 ? "" : "s") of the type F64 became f32, rounded to 24 bits")
        }
        return notices
    }

    /// The width of a type's values in a container, and how many times the room they take there; nil up to a twentieth more.
    static func growth(_ type: GGMLType) -> (bits: Int, growth: Double)? {
        guard case .quantized(let scheme) = try? GGMLBlocks.encoding(for: type) else { return nil }
        let span = scheme.span(k: 256)
        let before = Double(type.blockBytes) / Double(type.blockLength)
        let after = Double(scheme.recordBytes(k: 256)) / Double(span * 16)
        return after / before > 1.05 ? (scheme.bits, after / before) : nil
    }
}
