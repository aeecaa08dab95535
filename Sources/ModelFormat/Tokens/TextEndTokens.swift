/// The tokens that begin and end texts, as a folder's files say.
struct TextEndTokens: Sendable {
    var bos, eos: Int?
    /// More tokens that end what a model writes.
    var eot, eom: Int?
    /// Whether they are put around a text.
    var addsBOS, addsEOS: Bool
    /// Whether tokenizer.json says what is put there.
    var saysBOS, saysEOS: Bool

    /// What is put around a text.
    init(first: Int?, last: Int?, says: Bool) {
        (bos, eos) = (first, last)
        (addsBOS, addsEOS) = (first != nil, last != nil)
        (saysBOS, saysEOS) = (says || first != nil, says || last != nil)
    }

    func encode(into metadata: inout MetadataEncoder) {
        for (name, id) in [("bos", bos), ("eos", eos), ("eot", eot), ("eom", eom)] {
            if let id { metadata.set("tokenizer.ggml.\(name)_token_id", UInt32(clamping: id)) }
        }
        metadata.set("tokenizer.ggml.add_bos_token", addsBOS)
        metadata.set("tokenizer.ggml.add_eos_token", addsEOS)
    }
}
