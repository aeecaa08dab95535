import Engine
import Foundation
import Measuring

/// How far a model's outputs are from a reference model's.
public enum OutputLoss: Sendable {
    /// Cosines between embeddings.
    case embeddings(count: Int, meanCosine: Double, minCosine: Double)
    /// Over positions: mean KL(reference, model) in nats, the share of equal most probable tokens, and both perplexities.
    case language(positions: Int, meanKL: Double, sameTop: Double, perplexity: Double, referencePerplexity: Double)

    /// One number to compare by: 1 - mean cosine, or mean KL.
    public var value: Double {
        switch self {
        case .embeddings(_, let mean, _): 1 - mean
        case .language(_, let kl, _, _, _): kl
        }
    }
}

/// A reference model's outputs on some texts, kept to compare many variants with.
public struct ReferenceOutputs {
    private enum Outputs {
        case embeddings([[Float]])
        case logits([[Float]], next: [Int32?])
    }

    private let outputs: Outputs
    /// The texts' tokens, as the reference model cut them.
    public let texts: [[Int32]]

    /// Bytes of logits that are kept at most; the texts are cut to that.
    private static let logitBytes = 96 << 20

    /// - Throws: `EngineError`.
    public init(_ reference: RunnableModel, texts: [String]) throws {
        let tokens = reference.tokens(texts)
        if let encoder = reference.model as? EncoderModel {
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
