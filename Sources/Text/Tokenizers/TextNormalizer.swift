import ModelFormat

/// Steps that normalize the text of a tokenizer.json, in order.
struct TextNormalizer: Sendable {
    private enum Step: Sendable {
        /// Steps that work on single characters, or on their forms.
        case plain(Normalizer)
        case replace(PatternMatcher, [UInt8])
        case prepend([UInt8])
        case precompiled(CharacterMap)
    }

    private let steps: [Step]
    /// How many times longer a text may become.
    let growth: Double
    private static let growthLimit = 64.0

    var isEmpty: Bool { steps.isEmpty }

    /// - Parameter texts: names of steps, each followed by what it works with.
    init(_ texts: [String], _ metadata: Metadata) throws(TextError) {
        // Bytes of one, and those that are put before a part of a text, which may be as short.
        var (steps, growth, before): ([Step], Double, Double) = ([], 1, 0)
        var rest = texts[...]
        while let name = rest.popFirst() {
            var factor = 1.0
            switch name {
            case NormalizerStep.replaceKey:
                guard let pattern = rest.popFirst(), let content = rest.popFirst() else { throw Self.damaged }
                steps.append(.replace(try TextSteps.matcher(pattern), Array(content.utf8)))
                factor = Double(max(1, content.utf8.count))
            case NormalizerStep.prependKey:
                guard let text = rest.popFirst(), text.utf8.count <= 1 << 10 else { throw Self.damaged }
                steps.append(.prepend(Array(text.utf8)))
                before += Double(text.utf8.count)
            case NormalizerStep.precompiledKey:
                guard let bytes = metadata.numbers("tokenizer.ggml.precompiled_charsmap", UInt8.self) else {
                    throw Self.damaged
                }
                steps.append(.precompiled(try CharacterMap(bytes)))
                factor = Double(CharacterMap.growth)
            default:
                guard let step = NormalizerStep(rawValue: name) else {
                    throw TextError("the tokenizer's normalizer has the step \"\(name)\", which is not supported")
                }
                steps.append(.plain(Normalizer([step])))
                factor = Self.growth(step)
            }
            (growth, before) = (growth * factor, before * factor)
            guard growth + before <= Self.growthLimit else {
                throw TextError("the tokenizer's normalizer makes texts over \(Int(Self.growthLimit)) times longer")
            }
            guard steps.count <= TextSteps.stepLimit else {
                throw TextError("the tokenizer normalizes text in over \(TextSteps.stepLimit) steps")
            }
        }
        (self.steps, self.growth) = (steps, growth + before)
    }

    private static let damaged = TextError("the tokenizer's normalizer is damaged; import the model again")

    /// Bytes that a step makes of one at most.
    private static func growth(_ step: NormalizerStep) -> Double {
        switch step {
        // U+FDFA, three bytes, is 33.
        case .decomposeCompatible, .composeCompatible: 11
        case .decompose, .compose: 3
        case .lowercase: 1.5
        case .separateIdeographs: 2
        default: 1
        }
    }

    /// A part of a text, normalized.
    /// - Parameter keepsStart: becomes false where what the part begins with goes, or is replaced together with what follows:
    ///   then the rest does not stand at the beginning for Hugging Face's tokenizers, which look at the text as it was.
    func normalize(
        _ bytes: ArraySlice<UInt8>, _ meter: inout WorkMeter, keepsStart: inout Bool
    ) throws(CancellationError) -> [UInt8] {
        var text = Array(bytes)
        var forms = CanonicalForms()
        for step in steps {
            try meter.add(text.count)
            let first = text.isEmpty ? [] : Array(text[..<UTF8Text.scalar(text, 0).next])
            switch step {
            case .plain(let normalizer):
                if try Self.plain(first, normalizer, &forms, &meter).isEmpty { keepsStart = false }
                text = try Self.plain(text, normalizer, &forms, &meter)
            case .replace(let matcher, let content):
                let end = Self.firstMatchEnd(text, matcher)
                if end > first.count || (end > 0 && content.isEmpty) { keepsStart = false }
                text = Self.replacing(text, matcher, content)
            case .prepend(let prefix): if !text.isEmpty { text = prefix + text }
            case .precompiled(let map):
                text = map.replacingGraphemes(text, text.indices, limit: text.count * CharacterMap.growth + 64)
            }
        }
        return text
    }

    private static func plain(
        _ text: [UInt8], _ normalizer: Normalizer, _ forms: inout CanonicalForms, _ meter: inout WorkMeter
    ) throws(CancellationError) -> [UInt8] {
        var scalars: [Unicode.Scalar] = []
        scalars.reserveCapacity(text.count)
        var at = 0
        while at < text.count {
            let (scalar, next) = UTF8Text.scalar(text, at)
            scalars.append(scalar)
            at = next
        }
        var out: [UInt8] = []
        out.reserveCapacity(text.count)
        for scalar in try normalizer.normalize(scalars, &forms, &meter) { UTF8Text.append(scalar, to: &out) }
        return out
    }

    /// Where a match ends that the text begins with; 0 where it begins with none.
    private static func firstMatchEnd(_ text: [UInt8], _ matcher: PatternMatcher) -> Int {
        text.withUnsafeBufferPointer { text in
            var failures = PatternMatcher.Failures()
            return text.isEmpty ? 0 : matcher.matchEnd(text, 0, text.count, &failures)
        }
    }

    private static func replacing(_ text: [UInt8], _ matcher: PatternMatcher, _ content: [UInt8]) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(text.count)
        text.withUnsafeBufferPointer { text in
            var failures = PatternMatcher.Failures()
            var at = 0
            while let match = matcher.next(text, at, text.count, &failures) {
                out += text[at..<match.lowerBound]
                out += content
                at = match.upperBound
            }
            out += text[at...]
        }
        return out
    }
}
