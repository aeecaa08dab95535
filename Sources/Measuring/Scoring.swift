import Engine
import Glibc

/// How a model sees a text: what `ebbctl score` prints, and what KL and perplexity are measured from.
public struct Score: Sendable {
    public var ids: [Int32]
    /// The most probable next token at each position.
    public var argmax: [Int32]
    /// Mean negative log-likelihood of the tokens after the first, in nats; nil for fewer than two tokens.
    public var meanNLL: Double?
    /// The largest logits of the last position, descending.
    public var lastTop: [(id: Int32, logit: Float)]
    /// log Σ exp(logit) of the last position.
    public var lastLogSumExp: Double
    /// Tokens of a greedy continuation.
    public var greedy: [Int32]
}

extension DecoderModel {
    /// Scores a text.
    /// - Parameters:
    ///   - top: how many logits of the last position to return.
    ///   - greedy: how many tokens to continue the text by, greedily.
    ///   - adapters: what is applied beside the model's weights.
    ///   - onLogits: hears the logits of every position, in order.
    /// - Throws: ``EngineError`` for an empty text or one longer than the context.
    public func score(
        _ ids: [Int32], top: Int = 20, greedy: Int = 0, adapters: [AdapterUse] = [],
        onLogits: (UnsafeMutableBufferPointer<Float>) throws -> Void = { _ in }
    ) throws -> Score {
        guard !ids.isEmpty else { throw EngineError("there is nothing to score: the text has no tokens") }
        let sequence = makeSequence()
        var score = Score(ids: ids, argmax: [], meanNLL: nil, lastTop: [], lastLogSumExp: 0, greedy: [])
        var loss = 0.0
        var failure: (any Error)?
        for start in stride(from: 0, to: ids.count, by: rowLimit) {
            let chunk = ids[start..<min(start + rowLimit, ids.count)]
            let input = StepInput(sequence: sequence, tokens: chunk, logits: .all, adapters: adapters)
            try run([input]) { _, index, logits in
                let position = start + index
                score.argmax.append(Sampler.largest(logits))
                if position + 1 < ids.count {
                    loss += Self.logSumExp(logits) - Double(logits[Int(ids[position + 1])])
                } else {
                    score.lastLogSumExp = Self.logSumExp(logits)
                    score.lastTop = Self.largest(logits, top)
                }
                do { if failure == nil { try onLogits(logits) } } catch { failure = error }
            }
        }
        if let failure { throw failure }
        if ids.count > 1 { score.meanNLL = loss / Double(ids.count - 1) }
        score.greedy = try continueGreedily(sequence, adapters, first: score.argmax.last, count: greedy)
        return score
    }

    private func continueGreedily(
        _ sequence: KVSequence, _ adapters: [AdapterUse], first: Int32?, count: Int
    ) throws -> [Int32] {
        guard count > 0, var token = first else { return [] }
        var found = [token]
        while found.count < count {
            let input = StepInput(
                sequence: sequence, tokens: CollectionOfOne(token), logits: .last, adapters: adapters)
            try run([input]) { _, _, logits in token = Sampler.largest(logits) }
            found.append(token)
        }
        return found
    }

    /// log Σ exp(logits), in double precision.
    public static func logSumExp(_ logits: UnsafeMutableBufferPointer<Float>) -> Double {
        let largest = Double(logits[Int(Sampler.largest(logits))])
        return largest + log(logits.reduce(0.0) { $0 + exp(Double($1) - largest) })
    }

    private static func largest(_ logits: UnsafeMutableBufferPointer<Float>, _ count: Int) -> [(
        id: Int32, logit: Float
    )] {
        var best: [(id: Int32, logit: Float)] = []
        for (id, logit) in logits.enumerated() where count > 0 {
            if let last = best.last, best.count == count {
                guard logit > last.logit else { continue }
                best.removeLast()
            }
            // They descend: the first smaller one, by halves.
            var (place, end) = (0, best.count)
            while place < end {
                let middle = (place + end) / 2
                if best[middle].logit < logit { end = middle } else { place = middle + 1 }
            }
            best.insert((Int32(id), logit), at: place)
        }
        return best
    }
}
