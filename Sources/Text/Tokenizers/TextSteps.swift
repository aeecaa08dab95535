import ModelFormat

/// What a tokenizer.json does to text before its model, as the container has it: steps that normalize, then steps that split.
struct TextSteps: Sendable {
    let normalizer: TextNormalizer
    let splitter: TextSplitter
    /// Of a normalizer, or of a splitter: a real one has a handful.
    static let stepLimit = 64
    /// How many times longer a text may become.
    var growth: Double { normalizer.growth * splitter.growth }
    private static let growthLimit = 128.0

    /// - Returns: nil where the container says it in another way.
    /// - Throws: ``TextError`` for a step that is not known, and for a pattern that is not supported.
    init?(_ metadata: Metadata) throws(TextError) {
        guard let splits = Self.texts(metadata, SplitBehavior.key) else { return nil }
        splitter = try TextSplitter(splits)
        normalizer = try TextNormalizer(Self.texts(metadata, NormalizerStep.key) ?? [], metadata)
        guard growth <= Self.growthLimit else {
            throw TextError("the tokenizer makes texts over \(Int(Self.growthLimit)) times longer")
        }
    }

    private static func texts(_ metadata: Metadata, _ key: String) -> [String]? {
        guard let list = metadata.array(key), list.isStrings || list.count == 0 else { return nil }
        return (0..<list.count).map { String(decoding: list.string($0), as: UTF8.self) }
    }

    /// The matcher of a pattern whose matches are replaced or removed: one that may match nothing has matches everywhere.
    static func matcher(_ pattern: String) throws(TextError) -> PatternMatcher {
        guard try !PatternParser.parse(pattern).mayBeEmpty else {
            throw TextError("the pattern \(pattern.debugDescription) may match nothing, which is not supported here")
        }
        return try PatternMatcher.shared(pattern)
    }
}
