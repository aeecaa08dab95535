import EbbClient
import EbbProtocol
import Engine
import Foundation
import Synchronization
import Text

/// How a running stream takes it when layers change mode: measured at a client, against a real daemon.
struct SwitchingBench {
    let ebb: EbbClient
    let model: String
    /// Layers that change during the generation of ``flip(_:)``.
    let flips: Int
    /// Switches downwards that are timed, and words of the operator whose effect is timed.
    let rounds: Int
    /// Opens the model again, for the run that repeats the flips.
    let decoder: () throws -> DecoderModel

    /// Seconds between two tokens.
    struct Intervals: Codable {
        var p50 = 0.0
        var p99 = 0.0
        var worst = 0.0
        var count = 0

        init(_ seconds: [Double]) {
            let sorted = seconds.sorted()
            guard let last = sorted.last else { return }
            func at(_ share: Double) -> Double { sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))] }
            (p50, p99, worst, count) = (at(0.5), at(0.99), last, sorted.count)
        }
    }

    struct Report: Codable {
        var model: String
        /// All layers in one mode, nothing changing.
        var memoryLow = Intervals([])
        var dequantized = Intervals([])
        /// The five tokens after the word to drop all layers.
        var downwards = Intervals([])
        /// p99 of these over p50 of dequantized.
        var downwardsRatio = 0.0
        /// While layers are expanded in the background: time over what the layers' present modes take.
        var growthSlowdown = 0.0
        /// From the operator's word to the return of the memory, milliseconds.
        var reaction = Intervals([])
        var flips = 0
        var flipErrors = 0
        /// Whether a run with the same switches at the same steps gave the same text.
        var isIdentical = false
        var flipTokens = 0
    }

    private static let prompt = "Once upon a time there was a small harbour town"
    /// For ``flip(_:)``: a text may end of itself before all flips are made; then the next is tried.
    private static let prompts = [
        prompt, "Chapter 1. It was a dark and stormy night, and", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,",
        "a b c d a b c d a b c d a b c d",
    ]
    private static let clock = ContinuousClock()

    private var options: GenerationOptions {
        var options = GenerationOptions.greedy
        options.maxTokens = 100_000
        // A text that does not end of itself for want of anything new.
        options.repetitionPenalty = 1.1
        return options
    }

    /// Measures, and leaves the model's mode to the governor, however it ends.
    func run(progress: (String) -> Void) async throws -> Report {
        do {
            let report = try await measure(progress)
            try await ebb.setMode(model, .auto)
            return report
        } catch {
            try? await ebb.setMode(model, .auto)
            throw error
        }
    }

    private func measure(_ progress: (String) -> Void) async throws -> Report {
        var report = Report(model: model)
        _ = try await ebb.load(model)
        progress("memory_low")
        try await switchAll(.memoryLow)
        report.memoryLow = Intervals(try await intervals(96))
        progress("dequantized")
        try await switchAll(.dequantized)
        report.dequantized = Intervals(try await intervals(96))
        progress("downwards")
        report.downwards = Intervals(try await downwards(progress))
        report.downwardsRatio = report.downwards.p99 / max(report.dequantized.p50, 1e-9)
        progress("growth")
        report.growthSlowdown = try await growth(report)
        report.isIdentical = true
        for prompt in Self.prompts where report.flips < flips {
            progress("flips")
            try await flip(prompt, &report)
        }
        progress("reactions")
        report.reaction = Intervals(try await reactions(progress))
        return report
    }

    private func status() async throws -> EbbModelStatus {
        guard let status = try await ebb.status().models.first(where: { $0.name == model }) else {
            throw EngineError("\(model) is not loaded")
        }
        return status
    }

    /// Events from now on: the daemon has said so by the first.
    private func subscribe() async throws -> AsyncThrowingStream<EbbEvent, any Error> {
        let events = try await ebb.events()
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: EbbEvent.self)
        let (begun, begin) = AsyncStream.makeStream(of: Void.self)
        let task = Task {
            do {
                for try await event in events {
                    begin.yield()
                    continuation.yield(event)
                }
                continuation.finish()
            } catch {
                continuation.finish(throwing: error)
            }
            begin.finish()
        }
        continuation.onTermination = { _ in task.cancel() }
        for await _ in begun { break }
        return stream
    }

    private func switchAll(_ mode: EbbMode) async throws {
        try await ebb.setMode(model, mode)
        for _ in 0..<6000 {
            let status = try await status()
            if status.isWholly(expanded: mode == .dequantized) { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw EngineError("\(model) has not followed within 30 s")
    }

    /// Times between tokens, the first of which is not counted. A text may end of itself: then another is begun.
    private func intervals(_ count: Int, onToken: (Int) async throws -> Void = { _ in }) async throws -> [Double] {
        var found: [Double] = []
        while found.count < count {
            var last: ContinuousClock.Instant?
            let before = found.count
            for try await event in try await ebb.generate(model, prompt: Self.prompt, options: options) {
                guard case .text = event else { continue }
                let now = Self.clock.now
                if let last { found.append((now - last).seconds) }
                last = now
                if found.count >= count { break }
                try await onToken(found.count)
            }
            if found.count == before { throw EngineError("\(model) generates nothing") }
        }
        return found
    }

    private func downwards(_ progress: (String) -> Void) async throws -> [Double] {
        var found: [Double] = []
        for round in 0..<rounds {
            progress("downwards \(round + 1) of \(rounds)")
            try await switchAll(.dequantized)
            let all = try await intervals(20) { index in
                if index == 12 { try await ebb.setMode(model, .memoryLow) }
            }
            found += all[12..<17]
        }
        return found
    }

    private func growth(_ report: Report) async throws -> Double {
        var (took, expected) = (0.0, 0.0)
        for _ in 0..<3 {
            try await switchAll(.memoryLow)
            let standing = try await status()
            let units = Double(standing.layers + standing.experts)
            let expanded = Mutex(0.0)
            let events = try await subscribe()
            let listening = Task { [model] in
                for try await event in events where event.model == model && event.kind == .mode {
                    expanded.withLock { $0 = Double(event.expandedLayers + event.expandedExperts) }
                }
            }
            defer { listening.cancel() }
            try await ebb.setMode(model, .dequantized)
            var last = Self.clock.now
            var isFirst = true
            _ = try await intervals(400) { _ in
                let (now, share) = (Self.clock.now, expanded.withLock { $0 } / units)
                if !isFirst, share < 1 {
                    took += (now - last).seconds
                    expected += report.memoryLow.p50 + (report.dequantized.p50 - report.memoryLow.p50) * share
                }
                (last, isFirst) = (now, false)
            }
        }
        return expected > 0 ? took / expected - 1 : 0
    }

    /// The operator says critical, and takes it back: from the word to the return of the memory.
    private func reactions(_ progress: (String) -> Void) async throws -> [Double] {
        try await ebb.setMode(model, .auto)
        var found: [Double] = []
        for round in 0..<rounds {
            progress("reactions \(round + 1) of \(rounds)")
            for _ in 0..<12_000 {
                let status = try await status()
                if status.isWholly(expanded: true) { break }
                try await Task.sleep(for: .milliseconds(10))
            }
            let events = try await subscribe()
            try await ebb.setPressure(.critical, seconds: 1)
            for try await event in events where event.model == model && event.what == "dropped" {
                found.append(Double(event.reactionUs) / 1000)
                break
            }
            try await ebb.setPressure(.nominal, seconds: 0)
        }
        return found
    }

    // MARK: Flips, and the same again

    private struct Change {
        var step: Int
        /// Layers, and after them the experts of all layers.
        var units: [Int]
        var expands: Bool
    }

    /// Flips all layers to and fro during one generation, then makes the same switches at the same steps in a run of its
    /// own, and compares the texts.
    private func flip(_ prompt: String, _ report: inout Report) async throws {
        // The daemon counts steps from the model's load: anew, so that the generation's first is number 0.
        try await ebb.setMode(model, .memoryLow)
        try await ebb.unload(model)
        _ = try await ebb.load(model)
        try await switchAll(.memoryLow)
        let changes = Mutex<[Change]>([])
        let events = try await subscribe()
        let listening = Task { [model] in
            for try await event in events where event.model == model && event.kind == .mode {
                let change = Change(
                    step: Int(event.step),
                    units: (event.changedLayers + event.changedExperts.map { event.layers + $0 }).map(Int.init),
                    expands: event.what == "expanded")
                changes.withLock { $0.append(change) }
            }
        }
        let flipping = Task { [ebb, model] in
            while !Task.isCancelled {
                try await ebb.setMode(model, .dequantized)
                try await Task.sleep(for: .milliseconds(150))
                try await ebb.setMode(model, .memoryLow)
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        defer {
            listening.cancel()
            flipping.cancel()
        }
        var (text, tokens) = ("", 0)
        do {
            for try await event in try await ebb.generate(model, prompt: prompt, options: options) {
                guard case .text(let piece) = event else { continue }
                text += piece
                tokens += 1
                if changes.withLock({ $0.reduce(0) { $0 + $1.units.count } }) >= flips { break }
            }
        } catch {
            report.flipErrors += 1
        }
        let made = changes.withLock { $0 }
        report.flips = made.reduce(0) { $0 + $1.units.count }
        report.flipTokens = tokens
        let again = try replay(made, prompt, characters: text.count)
        report.isIdentical = report.isIdentical && !text.isEmpty && again.hasPrefix(text)
    }

    private func replay(_ changes: [Change], _ text: String, characters: Int) throws -> String {
        let decoder = try decoder()
        let sequence = decoder.makeSequence()
        var sampler = Sampler(SamplingParameters(temperature: 0, repetitionPenalty: 1.1))
        let prompt = decoder.tokenizer.encode(text, addSpecial: true, parseSpecial: true)
        var detokenizer = IncrementalDetokenizer(decoder.tokenizer)
        for token in prompt { sampler.accept(token) }
        var (text, input, step) = ("", prompt, 0)
        var left = changes[...]
        while text.count < characters {
            while let change = left.first, change.step <= step {
                for unit in change.units {
                    if change.expands { try decoder.expand(unit) } else { decoder.drop(unit) }
                }
                left.removeFirst()
            }
            var next: Int32 = 0
            try decoder.run([StepInput(sequence: sequence, tokens: input, logits: .last)]) { _, _, logits in
                next = sampler.sample(logits)
            }
            sampler.accept(next)
            if decoder.tokenizer.endOfGeneration.contains(next) { break }
            text += detokenizer.append(next)
            input = [next]
            step += 1
        }
        return text
    }
}

extension SwitchingBench.Report {
    /// For people; at most 80 columns.
    var text: String {
        func milliseconds(_ seconds: Double) -> String { Human.decimal(seconds * 1000, 2) + " ms" }
        func row(_ name: String, _ times: SwitchingBench.Intervals) -> [String] {
            [name, milliseconds(times.p50), milliseconds(times.p99), milliseconds(times.worst), "\(times.count)"]
        }
        var table = Table(["time between two tokens", "p50", "p99", "worst", "n"], right: [1, 2, 3, 4])
        table.add(row("memory_low", memoryLow))
        table.add(row("dequantized", dequantized))
        table.add(row("after the word to drop all layers", downwards))
        return table.text + """

            downwards: p99 is \(Human.decimal(downwardsRatio, 2)) x the dequantized p50 (mark: 2)
            growth in the background slows decode by \(Human.decimal(growthSlowdown * 100, 1)) % (mark: 15)
            memory back after the operator's word: median \(Human.decimal(reaction.p50, 1)) ms, worst \
            \(Human.decimal(reaction.worst, 1)) of \(reaction.count) (mark: 50)
            \(flips) flips in \(flipTokens) tokens: \(flipErrors) errors, text \(isIdentical ? "identical to" : "NOT that of") a run \
            with the same switches

            """
    }
}
