import Conversion

/// A loss as JSON and as a sentence.
struct LossReport: Encodable {
    let value: Double
    var texts, positions: Int?
    var meanCosine, minCosine: Double?
    var pairs: Int?
    var correlation, error: Double?
    var meanKL, sameTop, perplexity, referencePerplexity: Double?

    enum CodingKeys: String, CodingKey {
        case value, texts, positions, perplexity, pairs, correlation
        case error = "relative_error"
        case meanCosine = "mean_cosine"
        case minCosine = "min_cosine"
        case meanKL = "mean_kl"
        case sameTop = "same_top1"
        case referencePerplexity = "reference_perplexity"
    }

    init(_ loss: OutputLoss) {
        value = loss.value
        switch loss {
        case .embeddings(let count, let mean, let least): (texts, meanCosine, minCosine) = (count, mean, least)
        case .scores(let count, let similar, let difference):
            (pairs, correlation, error) = (count, similar, difference.isFinite ? difference : nil)
        case .language(let count, let kl, let same, let own, let other):
            (positions, meanKL, sameTop) = (count, kl, same)
            (perplexity, referencePerplexity) = (own, other)
        }
    }

    var sentence: String {
        if let meanCosine, let minCosine, let texts {
            return "cosine \(Human.decimal(meanCosine, 4)) in the mean, \(Human.decimal(minCosine, 4)) at worst, "
                + "over \(texts) texts"
        }
        if let correlation, let pairs {
            return "correlation of scores \(Human.decimal(correlation, 4)), over \(pairs) pairs of texts"
        }
        return "KL \(Human.decimal(meanKL ?? 0, 4)) nats in the mean, same top token "
            + "\(Human.decimal((sameTop ?? 0) * 100, 1)) %, perplexity \(Human.decimal(perplexity ?? 0, 2)) "
            + "(\(Human.decimal(referencePerplexity ?? 0, 2))), over \(positions ?? 0) positions"
    }
}
