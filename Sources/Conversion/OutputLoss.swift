import Engine
import Foundation
import Measuring

/// How far a model's outputs are from a reference model's.
public enum OutputLoss: Sendable {
    /// Cosines between embeddings.
    case embeddings(count: Int, meanCosine: Double, minCosine: Double)
    /// Of scores of pairs of texts: their correlation, and the root mean square of the differences in parts of the
    /// reference's standard deviation.
    case scores(pairs: Int, correlation: Double, error: Double)
    /// Over positions: mean KL(reference, model) in nats, the share of equal most probable tokens, and both perplexities.
    case language(positions: Int, meanKL: Double, sameTop: Double, perplexity: Double, referencePerplexity: Double)

    /// One number to compare by: 1 - mean cosine, 1 - correlation, or mean KL.
    public var value: Double {
        switch self {
        case .embeddings(_, let mean, _): 1 - mean
        case .scores(_, let correlation, _): 1 - correlation
        case .language(_, let kl, _, _, _): kl
        }
    }
}

/// A reference model's outputs on some texts, kept to compare many variants with.
public struct ReferenceOutputs {
    private enum Outputs {
        case embeddings([[Float]])
        case scores([Float], of: [EncoderText])
        case logits([[Float]], next: [Int32?])
    }

    private let outputs: Outputs
    /// The texts' tokens, as the reference model cut them.
    public let texts: [[Int32]]

    /// Whether they are a reranker's.
    public var areScores: Bool { if case .scores = outputs { true } else { false } }

    /// Bytes of logits that are kept at most; the texts are cut to that.
    private static let logitBytes = 96 << 20

    /// - Throws: `EngineError`.
    public init(_ reference: RunnableModel, texts: [String]) throws {
        let tokens = reference.tokens(texts)
        if let encoder = reference.model as? EncoderModel, encoder.config.isReranker {
            let pairs = Self.pairs(texts, encoder)
            self.texts = tokens
            outputs = .scores(try encoder.score(pairs), of: pairs)
        } else if let encoder = reference.model as? EncoderModel {
            self.texts = tokens
            outputs = .embeddings(try encoder.embed(tokens))
        } else {
            var room = max(64, Self.logitBytes / 4 / reference.tokenizer.vocabularySize)
            self.texts = tokens.compactMap { text in
                let taken = Array(text.prefix(room))
                room -= taken.count
                return taken.count > 1 ? taken : nil
            }
            outputs = .logits(try Self.logits(reference, self.texts), next: self.texts.flatMap(Self.next))
        }
    }

    /// Each text as a query for itself, which fits best, and for the two after it.
    private static func pairs(_ texts: [String], _ encoder: EncoderModel) -> [EncoderText] {
        texts.indices.flatMap { query in
            (0..<min(3, texts.count)).map { encoder.pair(texts[query], texts[(query + $0) % texts.count]) }
        }
    }

    private static func next(_ text: [Int32]) -> [Int32?] { text.dropFirst().map { $0 } + [nil] }

    private static func logits(_ model: RunnableModel, _ texts: [[Int32]]) throws -> [[Float]] {
        guard let decoder = model.model as? DecoderModel else { throw EngineError("not a decoder") }
        var rows: [[Float]] = []
        for text in texts {
            _ = try decoder.score(text, top: 0) { rows.append(Array($0)) }
        }
        return rows
    }

    /// The loss of a model on the same texts.
    /// - Throws: `EngineError` where it is of another kind than the reference.
    public func loss(of candidate: RunnableModel) throws -> OutputLoss {
        switch outputs {
        case .embeddings(let reference):
            guard let encoder = candidate.model as? EncoderModel else { throw Self.otherKind }
            let found = try encoder.embed(texts)
            let cosines = zip(reference, found).map(OutputDistance.cosine)
            return .embeddings(
                count: cosines.count, meanCosine: cosines.reduce(0, +) / Double(max(cosines.count, 1)),
                minCosine: cosines.min() ?? 1)
        case .scores(let reference, let pairs):
            guard let encoder = candidate.model as? EncoderModel else { throw Self.otherKind }
            return Self.loss(reference, try encoder.score(pairs))
        case .logits(let reference, let next):
            guard let decoder = candidate.model as? DecoderModel else { throw Self.otherKind }
            var sums = LanguageSums()
            var row = 0
            for text in texts {
                _ = try decoder.score(text, top: 0) { logits in
                    guard row < reference.count, reference[row].count == logits.count else {
                        throw EngineError("the vocabularies differ")
                    }
                    sums.add(reference: reference[row], logits, next: next[row])
                    row += 1
                }
            }
            return sums.loss
        }
    }

    /// Pearson's correlation of scores; 1 where they are the same, whatever they are.
    private static func loss(_ reference: [Float], _ found: [Float]) -> OutputLoss {
        let count = Double(max(reference.count, 1))
        let (a, b) = (reference.map(Double.init), found.map(Double.init))
        let means = (a.reduce(0, +) / count, b.reduce(0, +) / count)
        var (ab, aa, bb, squares) = (0.0, 0.0, 0.0, 0.0)
        for (x, y) in zip(a, b) {
            ab += (x - means.0) * (y - means.1)
            aa += (x - means.0) * (x - means.0)
            bb += (y - means.1) * (y - means.1)
            squares += (x - y) * (x - y)
        }
        guard squares > 0 else { return .scores(pairs: reference.count, correlation: 1, error: 0) }
        return .scores(
            pairs: reference.count, correlation: aa > 0 && bb > 0 ? ab / (aa * bb).squareRoot() : 0,
            error: aa > 0 ? (squares / aa).squareRoot() : .infinity)
    }

    private static let otherKind = EngineError("an encoder and a decoder cannot be compared")
}

private struct LanguageSums {
    private var positions = 0
    private var predicted = 0
    private var kl = 0.0
    private var same = 0
    private var nll = 0.0
    private var referenceNLL = 0.0

    mutating func add(reference: [Float], _ logits: UnsafeMutableBufferPointer<Float>, next: Int32?) {
        var reference = reference
        reference.withUnsafeMutableBufferPointer { reference in
            let (a, b) = (DecoderModel.logSumExp(reference), DecoderModel.logSumExp(logits))
            kl += OutputDistance.kl(reference, logits, logSumExp: (a, b))
            positions += 1
            if Sampler.largest(reference) == Sampler.largest(logits) { same += 1 }
            if let next {
                predicted += 1
                nll += b - Double(logits[Int(next)])
                referenceNLL += a - Double(reference[Int(next)])
            }
        }
    }

    var loss: OutputLoss {
        let count = Double(max(positions, 1))
        let words = Double(max(predicted, 1))
        return .language(
            positions: positions, meanKL: kl / count, sameTop: Double(same) / count, perplexity: exp(nll / words),
            referencePerplexity: exp(referenceNLL / words))
    }
}
