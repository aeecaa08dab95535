import Glibc

/// Chooses tokens for one sequence. Penalty, then top-k, top-p, min-p, then temperature: llama.cpp's order.
public struct Sampler {
    private let parameters: SamplingParameters
    private var random: SplitMix64
    private var recent: [Int32] = []

    private struct Candidate {
        let id: Int32
        let logit: Float
    }

    public init(_ parameters: SamplingParameters) {
        self.parameters = parameters
        random = SplitMix64(state: parameters.seed ?? UInt64.random(in: .min ... .max))
    }

    /// Tells the sampler of a token of the prompt or of its own choice.
    public mutating func accept(_ token: Int32) {
        guard parameters.repetitionPenalty != 1, parameters.penaltyWindow > 0 else { return }
        recent.append(token)
        if recent.count > parameters.penaltyWindow { recent.removeFirst() }
    }

    /// The next token. Changes the logits of recent tokens where there is a penalty.
    public mutating func sample(_ logits: UnsafeMutableBufferPointer<Float>) -> Int32 {
        penalize(logits)
        if parameters.temperature == 0 { return Self.largest(logits) }
        return draw(Self.candidates(logits, parameters))
    }

    private func penalize(_ logits: UnsafeMutableBufferPointer<Float>) {
        for token in Set(recent) where logits.indices.contains(Int(token)) {
            let logit = logits[Int(token)]
            logits[Int(token)] = logit > 0 ? logit / parameters.repetitionPenalty : logit * parameters.repetitionPenalty
        }
    }

    /// The index of the largest logit, the first of equals.
    public static func largest(_ logits: UnsafeMutableBufferPointer<Float>) -> Int32 {
        var best = 0
        for i in logits.indices where logits[i] > logits[best] { best = i }
        return Int32(best)
    }

    /// The tokens that may be drawn, most probable first. Never empty.
    private static func candidates(
        _ logits: UnsafeMutableBufferPointer<Float>, _ parameters: SamplingParameters
    ) -> [Candidate] {
        var kept: [Candidate]
        if parameters.topK > 0 {
            kept = top(parameters.topK, logits)
        } else {
            let floor = logits[Int(largest(logits))] + (parameters.minP > 0 ? log(parameters.minP) : -.infinity)
            kept = logits.indices.compactMap { logits[$0] >= floor ? Candidate(id: Int32($0), logit: logits[$0]) : nil }
            kept.sort { $0.logit > $1.logit }
        }
        guard let best = kept.first?.logit else { return [Candidate(id: largest(logits), logit: 0)] }
        if parameters.topP < 1 {
            let weights = kept.map { exp($0.logit - best) }
            let goal = parameters.topP * weights.reduce(0, +)
            var sum: Float = 0
            let count = weights.firstIndex { weight in
                sum += weight
                return sum >= goal
            }
            kept.removeLast(kept.count - ((count ?? kept.count - 1) + 1))
        }
        if parameters.minP > 0 {
            let floor = best + log(parameters.minP)
            kept = Array(kept.prefix { $0.logit >= floor })
        }
        return kept.isEmpty ? [Candidate(id: largest(logits), logit: best)] : kept
    }

    /// The k largest logits in descending order, by a heap of k: no sort of the vocabulary.
    private static func top(_ k: Int, _ logits: UnsafeMutableBufferPointer<Float>) -> [Candidate] {
        var heap: [Candidate] = []
        heap.reserveCapacity(min(k, logits.count))
        for i in logits.indices where !logits[i].isNaN {
            if heap.count < k {
                heap.append(Candidate(id: Int32(i), logit: logits[i]))
                var child = heap.count - 1
                while child > 0, heap[child].logit < heap[(child - 1) / 2].logit {
                    heap.swapAt(child, (child - 1) / 2)
                    child = (child - 1) / 2
                }
            } else if logits[i] > heap[0].logit {
                heap[0] = Candidate(id: Int32(i), logit: logits[i])
                sink(&heap)
            }
        }
        return heap.sorted { $0.logit != $1.logit ? $0.logit > $1.logit : $0.id < $1.id }
    }

    private static func sink(_ heap: inout [Candidate]) {
        var parent = 0
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].logit < heap[smallest].logit {
                smallest = child
            }
            if smallest == parent { return }
            heap.swapAt(parent, smallest)
            parent = smallest
        }
    }

    private mutating func draw(_ candidates: [Candidate]) -> Int32 {
        let best = candidates[0].logit
        let weights = candidates.map { exp(($0.logit - best) / parameters.temperature) }
        var left = random.nextUnit() * weights.reduce(0, +)
        for (candidate, weight) in zip(candidates, weights) {
            left -= weight
            if left <= 0 { return candidate.id }
        }
        return candidates[candidates.count - 1].id
    }
}

/// SplitMix64 (Steele, Lea & Flood 2014): small, and the same everywhere for a seed.
struct SplitMix64 {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    /// Evenly from 0 ..< 1, 24 bits.
    mutating func nextUnit() -> Float { Float(next() >> 40) * 0x1p-24 }
}
