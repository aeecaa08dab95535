import Engine
import Foundation
import Measuring
import ModelFormat
import Quantization

/// Which quantization to choose for a model on this machine. Candidates are made and measured, not assumed: their size,
/// their loss, and their speed in both modes; then the rules choose.
public struct Advice: Sendable {
    public enum Priority: String, Sendable, CaseIterable { case size, accuracy, speed }

    /// One way to quantize, measured.
    public struct Candidate: Sendable {
        public let name: String
        /// Options of `ebbctl quantize` that make it.
        public let options: String
        public let fileBytes: Int
        /// Resident memory with all weights read: as mapped, and with layers expanded to f16 besides.
        public let memoryLowBytes, dequantizedBytes: Int
        public let loss: OutputLoss
        /// Tokens of a prompt, or texts, a second.
        public let memoryLowRate, dequantizedRate: Double
        /// Tokens generated a second; nil for encoders.
        public let decodeRate: Double?
        /// Whether its loss is too large to be of use.
        public let isUseless: Bool
        public let fits: Bool

        /// What generation, or embedding, runs at.
        var speed: Double { decodeRate ?? memoryLowRate }
    }

    public let candidates: [Candidate]
    public let choice: Candidate
    public let reasons: [String]

    /// Above these a candidate is called useless: embeddings of a mean cosine below 0.95, scores of such a correlation,
    /// distributions further than 0.1
    /// nats (llama.cpp's own loss on the reference models is 0.001 to 0.005).
    private static let uselessEncoderLoss = 0.05
    private static let uselessDecoderLoss = 0.1

    /// - Parameters:
    ///   - memory: bytes that the model may take in memory_low, caches and buffers not counted.
    ///   - priority: what counts most; nil for a balance of size and speed.
    ///   - calibration: typical texts; nil where there are none.
    /// - Throws: ``FormatError`` where nothing fits, with what would.
    public init(
        _ source: any ModelSource, memory: Int, priority: Priority?, calibration: [String]?, threads: Int,
        progress: (String) -> Void = { _ in }
    ) throws {
        let model = try RunnableModel(source, expanded: true, threads: threads)
        let isEncoder = model.isEncoder
        let reference = try ReferenceOutputs(model, texts: CalibrationTexts.standard)
        let limit = isEncoder ? Self.uselessEncoderLoss : Self.uselessDecoderLoss
        let bench = Bench(
            source: source, reference: reference, calibration: calibration, threads: threads, memory: memory,
            uselessLoss: limit)
        var candidates: [Candidate] = []
        for plan in Self.plans(isEncoder: isEncoder, calibration: calibration != nil, source) {
            progress("measuring \(plan.name)")
            candidates.append(try bench.measure(plan, model: model))
        }
        self.candidates = candidates
        let usable = candidates.filter { $0.fits && !$0.isUseless }
        guard !usable.isEmpty else {
            let smallest = candidates.filter { !$0.isUseless }.min { $0.memoryLowBytes < $1.memoryLowBytes }
            let needed = smallest.map { "\($0.name) needs \($0.memoryLowBytes) bytes" } ?? "all lose too much"
            throw FormatError("nothing useful fits into \(memory) bytes: \(needed)")
        }
        var reasons = [
            isEncoder
                ? "useful is a \(Self.likeness(reference)) of at least \(1 - limit) to the source, over \(reference.texts.count) texts"
                : "useful is a mean KL of at most \(limit) nats to the source"
        ]
        choice = Self.choose(usable, priority, calibration: calibration != nil, &reasons)
        for candidate in candidates where candidate.isUseless {
            reasons.append("\(candidate.name) loses too much here: \(Self.text(candidate.loss))")
        }
        for candidate in candidates where !candidate.fits && !candidate.isUseless {
            reasons.append("\(candidate.name) does not fit: \(candidate.memoryLowBytes) bytes")
        }
        self.reasons = reasons
    }

    // MARK: Rules

    private static func choose(
        _ usable: [Candidate], _ priority: Priority?, calibration: Bool, _ reasons: inout [String]
    ) -> Candidate {
        func least(_ key: (Candidate) -> Double) -> Candidate {
            usable.dropFirst().reduce(usable[0]) { key($1) < key($0) ? $1 : $0 }
        }
        let chosen: Candidate
        switch priority {
        case .size?:
            reasons.append(
                "priority size: the smallest useful file; 8 bit where nothing may be lost, fewer where it pays")
            chosen = least { Double($0.fileBytes) }
        case .accuracy?:
            reasons.append(
                "priority accuracy: the least loss that fits; among quantized files HQQ or GPTQ, f16 where half is enough"
            )
            chosen = least { max($0.loss.value, 0) }
        case .speed?:
            reasons.append(
                calibration
                    ? "priority speed: the fastest useful one; calibrated full INT8 has no scales to find on the way"
                    : "priority speed: the fastest useful one, integer kernels on mapped weights (memory_low)")
            chosen = least { -$0.speed }
        case nil:
            reasons.append(
                "size and speed: 4 bit in blocks of 32 and memory_low; the next wider where that loses too much")
            let order = ["4 bit, block 32, gptq", "4 bit, block 32, hqq", "6 bit, block 32, hqq"]
            chosen =
                order.lazy.compactMap { name in usable.first { $0.name == name } }.first
                ?? least { Double($0.fileBytes) }
        }
        reasons.append(
            "\(chosen.name): \(text(chosen.loss)), \(chosen.fileBytes) bytes, "
                + "\(Int(chosen.speed)) \(chosen.decodeRate == nil ? "texts" : "tokens")/s in memory_low")
        return chosen
    }

    private static func likeness(_ reference: ReferenceOutputs) -> String {
        reference.areScores ? "correlation of scores" : "mean cosine"
    }

    private static func text(_ loss: OutputLoss) -> String {
        switch loss {
        case .embeddings(_, let mean, _): String(format: "mean cosine %.4f", mean)
        case .scores(_, let correlation, _): String(format: "correlation of scores %.4f", correlation)
        case .language(_, let kl, _, let own, let other):
            String(format: "mean KL %.4f, perplexity %.2f (source %.2f)", kl, own, other)
        }
    }

    // MARK: Candidates

    struct Plan {
        let name: String
        let options: String
        var recipe: Recipe?
    }

    private static func plans(isEncoder: Bool, calibration: Bool, _ source: any ModelSource) -> [Plan] {
        func uniform(_ bits: Int, _ block: Int, _ method: QuantizationMethod, asymmetric: Bool = true) -> Plan {
            let blocks = block == -1 ? "per channel" : "block \(block)"
            var options = "--weight-bits \(bits) --block \(block)"
            if method != .minmax { options += " --method \(method.rawValue)" }
            if !asymmetric { options += " --symmetric" }
            if method == .gptq { options += " --calibration FILE" }
            return Plan(
                name:
                    "\(bits) bit, \(blocks)\(method == .minmax ? "" : ", \(method.rawValue)")\(asymmetric ? "" : ", sym")",
                options: options,
                recipe: QuantizationPlan.uniform(bits: bits, block: block, asymmetric: asymmetric, method: method))
        }
        var plans: [Plan] = []
        // A source that is quantized already gains nothing from f16.
        if !source.isQuantized { plans.append(Plan(name: "f16", options: "--fp16", recipe: QuantizationPlan.halves)) }
        plans += [
            uniform(8, 32, .minmax, asymmetric: false), uniform(8, 128, .hqq), uniform(6, 32, .hqq),
            uniform(4, 32, .hqq),
            uniform(4, 128, .hqq), uniform(4, -1, .minmax),
        ]
        if calibration {
            plans += [uniform(4, 32, .gptq), uniform(3, 32, .gptq)]
            if isEncoder { plans.append(Plan(name: "full INT8", options: "--full-int8 calibration.json")) }
        } else {
            plans.append(uniform(3, 32, .hqq))
        }
        return plans
    }

    /// Makes and measures candidates.
    private struct Bench {
        let source: any ModelSource
        let reference: ReferenceOutputs
        let calibration: [String]?
        let threads: Int
        let memory: Int
        let uselessLoss: Double

        func measure(_ plan: Plan, model: RunnableModel) throws -> Candidate {
            let folder = try WorkFolder()
            let path = folder.file()
            defer { withExtendedLifetime(folder) {} }
            let quantizer = Quantizer(source, calibration: calibration, threads: threads)
            if let recipe = plan.recipe {
                try quantizer.write(try QuantizationPlan(source, recipe), to: path)
            } else {
                let int8 = try FullInt8(source, try Calibration(model, texts: calibration ?? []), range: .max)
                _ = try quantizer.write(int8, to: path)
            }
            let file = try EbbFile(path: path)
            let candidate = try RunnableModel(EbbSource(file), expanded: false, threads: threads)
            let loss = try reference.loss(of: candidate)
            let (rate, decode) = try speed(candidate)
            let expanded = try RunnableModel(EbbSource(file), expanded: true, precision: .f16, threads: threads)
            return Candidate(
                name: plan.name, options: plan.options, fileBytes: file.byteCount, memoryLowBytes: file.byteCount,
                dequantizedBytes: file.byteCount + expanded.model.expandedBytes, loss: loss, memoryLowRate: rate,
                dequantizedRate: try speed(expanded).0, decodeRate: decode, isUseless: loss.value > uselessLoss,
                fits: file.byteCount <= memory)
        }

        /// Texts or prompt tokens a second, and tokens generated a second.
        private func speed(_ model: RunnableModel) throws -> (Double, Double?) {
            if let encoder = model.model as? EncoderModel {
                return (
                    try EncoderSpeedTest(batch: 16, length: 64, repetitions: 2).run(encoder, seconds: 0.2).median, nil
                )
            }
            guard let decoder = model.model as? DecoderModel else { return (0, nil) }
            let results = try SpeedTest(promptTokens: 128, decodeTokens: 16, repetitions: 3).run(decoder)
            return (results.first?.median ?? 0, results.last?.median)
        }
    }
}
