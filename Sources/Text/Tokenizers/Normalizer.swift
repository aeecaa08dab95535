import ModelFormat

/// What an encoder's tokenizer does to text before it is split: steps in an order, as Hugging Face tokenizers have them.
struct Normalizer: Sendable {
    private let steps: [NormalizerStep]

    init(_ steps: [NormalizerStep]) { self.steps = steps }

    /// - Throws: ``TextError`` for a step that is not known.
    init(_ metadata: Metadata) throws {
        guard let list = metadata.array(NormalizerStep.key), list.isStrings else {
            let lowercase =
                metadata.bool("tokenizer.ebb.lowercase") ?? metadata.bool("tokenizer.ggml.normalizer.lowercase")
            steps = NormalizerStep.bert(
                stripAccents: metadata.bool("tokenizer.ggml.normalizer.strip_accents"), lowercase: lowercase ?? true)
            return
        }
        steps = try (0..<list.count).map { index in
            let name = String(decoding: list.string(index), as: UTF8.self)
            guard let step = NormalizerStep(rawValue: name) else {
                throw TextError("the tokenizer's normalizer has the step \"\(name)\", which is not supported")
            }
            return step
        }
    }

    func normalize(
        _ scalars: [Unicode.Scalar], _ forms: inout CanonicalForms, _ meter: inout WorkMeter
    ) throws(CancellationError) -> [Unicode.Scalar] {
        var scalars = scalars
        for step in steps {
            try meter.add(scalars.count)
            switch step {
            case .cleanText: scalars = scalars.compactMap(Self.cleaned)
            case .separateIdeographs: Self.separateIdeographs(&scalars)
            case .decompose:
                if !scalars.allSatisfy(\.isASCII) { scalars = try forms.decomposed(scalars, &meter) }
            case .compose:
                if !scalars.allSatisfy({ CanonicalForms.isComposed($0.value) }) {
                    scalars = try forms.composed(scalars, &meter)
                }
            case .dropNonspacingMarks:
                scalars.removeAll { !$0.isASCII && $0.properties.generalCategory == .nonspacingMark }
            case .dropMarks: scalars.removeAll(where: Self.isMark)
            case .lowercase: Self.lowercase(&scalars)
            case .decomposeCompatible: scalars = try forms.decomposedCompatible(scalars, &meter)
            case .composeCompatible: scalars = try forms.composedCompatible(scalars, &meter)
            case .nmt: scalars = scalars.compactMap(Self.withoutControls)
            case .stripStart: scalars = Array(scalars.drop { $0.properties.isWhitespace })
            case .stripEnd:
                while let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
            }
        }
        return scalars
    }

    /// White space becomes a space, control characters go.
    private static func cleaned(_ scalar: Unicode.Scalar) -> Unicode.Scalar? {
        switch scalar.value {
        case 0x20..<0x7f: return scalar
        case 0x09, 0x0a, 0x0d: return " "
        case 0..<0x20, 0x7f, 0xfffd: return nil
        default: break
        }
        switch scalar.properties.generalCategory {
        case .control, .format, .privateUse, .surrogate: return nil
        default: return scalar.properties.isWhitespace ? " " : scalar
        }
    }

    /// As SentencePiece's rules `nmt_nfkc` begin.
    private static func withoutControls(_ scalar: Unicode.Scalar) -> Unicode.Scalar? {
        switch scalar.value {
        case 0x01...0x08, 0x0b, 0x0e...0x1f, 0x7f, 0x8f, 0x9f: nil
        case 0x09, 0x0a, 0x0c, 0x0d, 0x1680, 0x200b...0x200f, 0x2028, 0x2029, 0x2581, 0xfeff, 0xfffd: " "
        default: scalar
        }
    }

    /// CJK ideographs stand alone, as words do.
    private static func separateIdeographs(_ scalars: inout [Unicode.Scalar]) {
        guard scalars.contains(where: isIdeograph) else { return }
        var out: [Unicode.Scalar] = []
        out.reserveCapacity(scalars.count * 3)
        for scalar in scalars {
            if isIdeograph(scalar) { out += [" ", scalar, " "] } else { out.append(scalar) }
        }
        scalars = out
    }

    /// As Hugging Face tokenizers have it, which leave out the first 256 of U+2B820 and what follows.
    private static func isIdeograph(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x4e00...0x9fff, 0x3400...0x4dbf, 0x20000...0x2a6df, 0x2a700...0x2b73f, 0x2b740...0x2b81f,
            0x2b920...0x2ceaf, 0xf900...0xfaff, 0x2f800...0x2fa1f:
            true
        default: false
        }
    }

    private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.isASCII ? .control : scalar.properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark: true
        default: false
        }
    }

    private static func lowercase(_ scalars: inout [Unicode.Scalar]) {
        var out: [Unicode.Scalar] = []
        out.reserveCapacity(scalars.count)
        for scalar in scalars {
            switch scalar.value {
            case 0x41...0x5a: out.append(Unicode.Scalar(UInt8(truncatingIfNeeded: scalar.value | 0x20)))
            case 0..<0xc0: out.append(scalar)
            default: out.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
            }
        }
        scalars = out
    }
}
