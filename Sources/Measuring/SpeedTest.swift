import Engine

/// Speed of a model on this machine, as llama-bench measures it: prefill of `promptTokens` (ppN) and decode of
/// `decodeTokens` from an empty context (tgN).
public struct SpeedTest: Sendable {
    public var promptTokens: Int
    public var decodeTokens: Int
    public var repetitions: Int
    /// Tokens in the context before decode is measured.
    public var depth: Int
    /// Sequences that are decoded together; their tokens add up.
    public var parallel: Int

    public init(
        promptTokens: Int = 512, decodeTokens: Int = 64, repetitions: Int = 5, depth: Int = 0, parallel: Int = 1
    ) {
        self.parallel = parallel
        self.promptTokens = promptTokens
        self.decodeTokens = decodeTokens
        self.repetitions = repetitions
        self.depth = depth
    }

    public struct Result: Sendable {
        /// `pp512`, `tg64`.
        public var test: String
        /// Tokens a second of each repetition.
        public var rates: [Double]

        public var median: Double {
            let sorted = rates.sorted()
            let middle = sorted.count / 2
            guard !sorted.isEmpty else { return 0 }
            return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
        }
        public var fastest: Double { rates.max() ?? 0 }
        public var slowest: Double { rates.min() ?? 0 }
    }

    /// Runs the tests after one warm-up each. `progress` hears what is measured.
    public func run(_ model: DecoderModel, progress: (String) -> Void = { _ in }) throws -> [Result] {
        var results: [Result] = []
        if promptTokens > 0 {
            results.append(try measure("pp\(promptTokens)", progress) { try prefill(model) })
        }
        if decodeTokens > 0 {
            var name = depth > 0 ? "tg\(decodeTokens) @ d\(depth)" : "tg\(decodeTokens)"
            if parallel > 1 { name += " x \(parallel)" }
            results.append(try measure(name, progress) { try decode(model) })
        }
        return results
    }

    private func measure(_ name: String, _ progress: (String) -> Void, _ body: () throws -> Double) throws -> Result {
        var result = Result(test: name, rates: [])
        for repetition in 0...repetitions {
            progress("\(name): \(repetition == 0 ? "warm-up" : "\(repetition)/\(repetitions)")")
            let rate = try body()
            if repetition > 0 { result.rates.append(rate) }
        }
        return result
    }

    /// Tokens that cover the vocabulary evenly: what they are does not change the work.
    private func tokens(_ count: Int, _ model: DecoderModel) -> [Int32] {
        (0..<count).map { Int32(($0 * 7919 + 13) % model.config.vocabulary) }
    }

    private func feed(_ tokens: [Int32], _ sequence: KVSequence, _ model: DecoderModel) throws {
        for start in stride(from: 0, to: tokens.count, by: model.rowLimit) {
            let chunk = tokens[start..<min(start + model.rowLimit, tokens.count)]
            let last = start + model.rowLimit >= tokens.count
            try model.run([StepInput(sequence: sequence, tokens: chunk, logits: last ? .last : .none)]) { _, _, _ in }
        }
    }

    private func prefill(_ model: DecoderModel) throws -> Double {
        let sequence = model.makeSequence()
        let tokens = tokens(promptTokens, model)
        let time = try ContinuousClock().measure { try feed(tokens, sequence, model) }
        return Double(promptTokens) / time.seconds
    }

    private func decode(_ model: DecoderModel) throws -> Double {
        let sequences = (0..<parallel).map { _ in model.makeSequence() }
        if depth > 0 { for sequence in sequences { try feed(tokens(depth, model), sequence, model) } }
        var next = [Int32](repeating: 1, count: parallel)
        let time = try ContinuousClock().measure {
            for _ in 0..<decodeTokens {
                let batch = sequences.indices.map {
                    StepInput(sequence: sequences[$0], tokens: CollectionOfOne(next[$0]), logits: .last)
                }
                try model.run(batch) { index, _, logits in next[index] = Sampler.largest(logits) }
            }
        }
        return Double(decodeTokens * parallel) / time.seconds
    }
}

/// Speed of an encoder: texts a second, in batches of equally long texts.
public struct EncoderSpeedTest: Sendable {
    public var batch: Int
    public var length: Int
    public var repetitions: Int

    public init(batch: Int = 16, length: Int = 128, repetitions: Int = 5) {
        (self.batch, self.length, self.repetitions) = (batch, length, repetitions)
    }

    /// Runs the test after a warm-up; each repetition takes at least `seconds`.
    public func run(_ model: EncoderModel, seconds: Double = 0.5, progress: (String) -> Void = { _ in }) throws
        -> SpeedTest.Result
    {
        let length = min(length, model.config.contextLength)
        let texts = (0..<batch).map { text in
            (0..<length).map { Int32(($0 * 7919 + text * 104_729 + 13) % model.config.vocabulary) }
        }
        var result = SpeedTest.Result(test: "\(batch)x\(length)", rates: [])
        for repetition in 0...repetitions {
            progress("\(result.test): \(repetition == 0 ? "warm-up" : "\(repetition)/\(repetitions)")")
            let start = ContinuousClock.now
            var done = 0
            repeat {
                _ = try model.runEach(texts.map { EncoderText($0) })
                done += batch
            } while (ContinuousClock.now - start).seconds < seconds
            if repetition > 0 { result.rates.append(Double(done) / (ContinuousClock.now - start).seconds) }
        }
        return result
    }
}
