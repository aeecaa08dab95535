import ModelFormat

/// Added tokens that a tokenizer.json looks for in normalized text, as the normalizer spells them.
struct NormalizedTokens: Sendable {
    let finder: SpecialTokens
    private let ids: [Int32]

    /// - Returns: nil where there are none.
    init?(_ flags: AddedTokenFlags, _ vocabulary: Vocabulary, _ normalizer: TextNormalizer?) throws {
        ids = flags.normalized
        guard let normalizer, !ids.isEmpty else { return nil }
        var (meter, keepsStart) = (WorkMeter { false }, true)
        finder = SpecialTokens(
            try Vocabulary(
                found: try ids.map { id in
                    try normalizer.normalize(vocabulary.bytes(id)[...], &meter, keepsStart: &keepsStart)
                }))
    }

    /// The token that the finder calls `index`.
    func id(_ index: Int32) -> Int32 { ids[Int(index)] }
}
