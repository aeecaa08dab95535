import Engine
import Foundation
import Measuring
import ModelFormat
import Quantization

/// Ranges of a model's activations on typical texts: what full-graph INT8 fixes its scales by. Stored as JSON.
public struct Calibration: Codable, Sendable {
    /// An input that some weights read.
    public struct Input: Codable, Sendable {
        public var weights: [String]
        /// By method: the magnitude that becomes 127.
        public var ranges: [String: Float]
        /// The largest magnitude of each input channel, [k].
        public var channelMax: [Float]
        /// The mean square of each input channel, [k].
        public var channelSquare: [Float]

        enum CodingKeys: String, CodingKey {
            case weights, ranges
            case channelMax = "channel_max"
            case channelSquare = "channel_square"
        }
    }

    /// Queries (scaled by 1 / sqrt(head_dim)), keys and values of a layer of an encoder.
    public struct Attention: Codable, Sendable {
        public var layer: Int
        public var query, key, value: [String: Float]
    }

    public var architecture: String
    public var texts: Int
    public var tokens: Int
    public var inputs: [Input]
    public var attention: [Attention]

    /// Rows whose largest magnitude counts as one piece of the moving average.
    private static let piece = 32
    private static let emaMomentum: Float = 0.9

    /// Runs texts through a model with float weights, layer by layer.
    /// - Throws: `EngineError`, or ``FormatError`` where activations are not finite.
    public init(_ model: RunnableModel, texts: [String], progress: (Double) -> Void = { _ in }) throws {
        let tokens = model.tokens(texts)
        architecture = model.file.metadata.string("general.architecture") ?? ""
        self.texts = tokens.count
        self.tokens = tokens.reduce(0) { $0 + $1.count }
        inputs = []
        attention = []
        let walk = try LayerWalk(model.model, texts: tokens)
        try walk.start()
        while walk.layer < walk.model.layerCount {
            var records: [String: Record] = [:]
            var order: [[String]] = []
            // The first look finds the limits, the second fills the histograms.
            for isFirst in [true, false] {
                for key in records.keys where !isFirst { records[key]?.beginHistogram() }
                try walk.look(
                    onInput: { input in
                        let key = input.weights.joined(separator: " ")
                        if records[key] == nil { order.append(input.weights) }
                        records[key, default: Record(k: input.k)].add(input.rows, count: input.count)
                    },
                    onAttention: { input in
                        for (name, rows) in [("query", input.query), ("key", input.key), ("value", input.value)] {
                            records[name, default: Record(k: input.width)].add(rows, count: input.count)
                        }
                    })
            }
            try collect(records, order, layer: walk.layer)
            try walk.advance()
            progress(Double(walk.layer) / Double(walk.model.layerCount))
        }
    }

    private mutating func collect(_ records: [String: Record], _ order: [[String]], layer: Int) throws {
        for weights in order {
            guard let record = records[weights.joined(separator: " ")] else { continue }
            guard record.channelMax.allSatisfy(\.isFinite) else {
                throw FormatError("the input of \(weights.joined(separator: ", ")) is not finite on these texts")
            }
            inputs.append(
                Input(
                    weights: weights, ranges: record.ranges, channelMax: record.channelMax,
                    channelSquare: record.channelSum.map { Float($0 / Double(max(record.rows, 1))) }))
        }
        if let query = records["query"], let key = records["key"], let value = records["value"] {
            attention.append(Attention(layer: layer, query: query.ranges, key: key.ranges, value: value.ranges))
        }
    }

    /// What is remembered of one activation.
    private struct Record {
        let k: Int
        var channelMax: [Float]
        var channelSum: [Double]
        var rows = 0
        var ema: Float?
        var histogram: MagnitudeHistogram?

        init(k: Int) {
            self.k = k
            channelMax = Array(repeating: 0, count: k)
            channelSum = Array(repeating: 0, count: k)
        }

        mutating func beginHistogram() { histogram = MagnitudeHistogram(limit: channelMax.max() ?? 0) }

        mutating func add(_ x: UnsafePointer<Float>, count: Int) {
            if histogram != nil { return histogram?.add(x, count: count * k) ?? () }
            for first in stride(from: 0, to: count, by: Calibration.piece) {
                var largest: Float = 0
                for row in first..<min(first + Calibration.piece, count) {
                    for i in 0..<k {
                        let magnitude = abs(x[row * k + i])
                        // Written so that NaN is kept.
                        if !(magnitude <= channelMax[i]) { channelMax[i] = magnitude }
                        largest = max(largest, magnitude)
                        channelSum[i] += Double(magnitude * magnitude)
                    }
                }
                rows += min(first + Calibration.piece, count) - first
                ema = ema.map { $0 * Calibration.emaMomentum + largest * (1 - Calibration.emaMomentum) } ?? largest
            }
        }

        var ranges: [String: Float] {
            guard let histogram else { return [:] }
            return Dictionary(
                uniqueKeysWithValues: RangeMethod.allCases.map {
                    ($0.rawValue, histogram.range($0, ema: ema ?? histogram.limit))
                })
        }
    }

    // MARK: Files

    /// - Throws: ``FormatError`` for a file that cannot be read or is no calibration.
    public static func read(_ path: String) throws -> Calibration {
        let data = Data(try SmallFile.read(path, limit: 1 << 30))
        do {
            return try JSONDecoder().decode(Calibration.self, from: data)
        } catch {
            throw FormatError("\(path) is no calibration; ebbctl calibrate makes one")
        }
    }

    public func write(to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            try encoder.encode(self).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw FormatError("cannot write \(path): \(error.localizedDescription)")
        }
    }
}
