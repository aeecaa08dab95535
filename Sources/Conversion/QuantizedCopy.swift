import CKernels
import Foundation
import ModelFormat
import Quantization

/// Writes a model anew as a plan says, a few tiles at a time: memory does not grow with the model.
public struct QuantizedCopy {
    /// Channels of one matrix as codes: what a method that needs more than the weights (``GPTQRun``) has computed.
    public typealias Codes = (QuantizationPlan.Item) throws -> EncodedMatrix?

    private let source: any ModelSource
    private let plan: QuantizationPlan
    private let jobs: Int
    /// Multiplied into a matrix' columns before it is quantized, by name.
    public var columnFactors: [String: [Float]] = [:]
    /// More vectors for the file, by name.
    public var vectors: [(name: String, values: [Float])] = []
    public var codes: Codes = { _ in nil }

    /// Tiles of a matrix that are in memory at a time, for each job.
    private static let tilesPerJob = 8

    public init(_ source: any ModelSource, _ plan: QuantizationPlan, jobs: Int) {
        (self.source, self.plan, self.jobs) = (source, plan, max(1, jobs))
    }

    /// Writes `destination`. `progress` hears a fraction, 0...1.
    /// - Parameter check: looks at the finished file before it gets its name.
    /// - Throws: ``FormatError`` or `SchemeError`; then no file is left.
    public func write(
        to destination: String, checking check: (EbbFile) throws -> Void = { _ in },
        progress: (Double) -> Void = { _ in }
    ) throws {
        let writer = try EbbWriter(destination: destination, metadata: try metadata(), shapes: shapes)
        var done = 0
        let total = max(1, source.floatBytes)
        for item in plan.items {
            try write(item, to: writer) { channels in
                progress(Double(done + channels * item.tensor.k * 4) / Double(total))
            }
            done += item.tensor.floatBytes
        }
        for vector in vectors { try vector.values.withUnsafeBytes { try writer.append($0) } }
        try writer.finish(checking: check)
        progress(1)
    }

    private var shapes: [TensorShape] {
        plan.items.map(\.shape) + vectors.map { TensorShape(name: $0.name, layout: .vector, n: $0.values.count, k: 1) }
    }

    private func metadata() throws -> MetadataEncoder {
        var metadata = try source.encodedMetadata()
        metadata.setProvenance(source)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        metadata.set("ebb.quantization.recipe", String(decoding: try encoder.encode(plan.recipe), as: UTF8.self))
        metadata.set("ebb.quantization.summary", plan.summary)
        return metadata
    }

    /// Bytes that the file will take.
    public func predictedBytes() throws -> Int { EbbWriter.byteCount(metadata: try metadata(), shapes: shapes) }

    private func write(_ item: QuantizationPlan.Item, to writer: EbbWriter, progress: (Int) -> Void) throws {
        switch item.treatment {
        case .source:
            if item.tensor.isVector { try Self.demandFinite(try source.vector(item.tensor), item.tensor.name) }
            try source.copy(item.tensor, to: writer, progress: progress)
        case .float(let encoding): try writeFloats(item, encoding, to: writer, progress: progress)
        case .quantized(let scheme, let method, _):
            if let encoded = try codes(item) {
                try encoded.withBytes { try writer.append($0) }
                return progress(item.tensor.n)
            }
            try writeQuantized(item, scheme, method, to: writer, progress: progress)
        }
    }

    private func writeFloats(
        _ item: QuantizationPlan.Item, _ encoding: Encoding, to writer: EbbWriter, progress: (Int) -> Void
    ) throws {
        let tensor = item.tensor
        let tiles = try FloatTiles(encoding: encoding, k: tensor.k)
        for first in stride(from: 0, to: tensor.n, by: 16) {
            try tiles.fill(channels: min(16, tensor.n - first)) { lane, row in
                try source.read(tensor, channel: first + lane, into: row)
                try Self.demandFinite(row, tensor, channel: first + lane)
                guard encoding == .f16, (0..<tensor.k).contains(where: { abs(row[$0]) > 65_504 }) else { return }
                throw FormatError("\(tensor.name) holds weights beyond the range of f16; keep it with --keep")
            }
            try writer.append(tiles.bytes)
            progress(first)
        }
    }

    private func writeQuantized(
        _ item: QuantizationPlan.Item, _ scheme: Scheme, _ method: QuantizationMethod, to writer: EbbWriter,
        progress: (Int) -> Void
    ) throws {
        let tensor = item.tensor
        let factors = columnFactors[tensor.name]
        let wave = jobs * Self.tilesPerJob
        for first in stride(from: 0, to: (tensor.n + 15) / 16, by: wave) {
            let tiles = min(wave, (tensor.n + 15) / 16 - first)
            let encoded = EncodedMatrix(scheme: scheme, n: min(tensor.n - first * 16, tiles * 16), k: tensor.k)
            let quantizer = BlockQuantizer(scheme: scheme, method: method)
            try encoded.fill(from: source, tensor, first: first * 16, jobs: jobs) { row, code in
                if let factors { for i in 0..<tensor.k { row[i] *= factors[i] } }
                try quantizer.encode(row, into: code)
            }
            try encoded.withBytes { try writer.append($0) }
            progress(first * 16)
        }
    }

    static func demandFinite(_ row: UnsafePointer<Float>, _ tensor: SourceTensor, channel: Int) throws {
        // x * 0 is NaN for NaN and infinity alone.
        var sum: Float = 0
        for i in 0..<tensor.k { sum += row[i] * 0 }
        guard sum == 0 else {
            throw FormatError("\(tensor.name), channel \(channel), holds NaN or infinity; the source is damaged")
        }
    }

    private static func demandFinite(_ values: [Float], _ name: String) throws {
        guard values.allSatisfy(\.isFinite) else {
            throw FormatError("\(name) holds NaN or infinity; the source is damaged")
        }
    }
}

/// Tiles of a quantized matrix in memory.
///
/// @unchecked Sendable: threads write tiles of their own; nobody reads before all are done.
public final class EncodedMatrix: @unchecked Sendable {
    public let scheme: Scheme
    public let n: Int
    public let k: Int
    private let tiles: TileWriter
    private let memory: UnsafeMutableRawBufferPointer

    public init(scheme: Scheme, n: Int, k: Int) {
        (self.scheme, self.n, self.k) = (scheme, n, k)
        tiles = TileWriter(scheme: scheme, k: k)
        memory = .allocate(byteCount: (n + 15) / 16 * tiles.tileBytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit { memory.deallocate() }

    func write(_ code: ChannelCode, channel: Int) {
        let start = channel / 16 * tiles.tileBytes
        tiles.write(
            code, lane: channel % 16,
            into: UnsafeMutableRawBufferPointer(rebasing: memory[start..<start + tiles.tileBytes]))
    }

    /// Encodes channels `first`... of a tensor, tile by tile on several threads. `encode` may change the row.
    func fill(
        from source: any ModelSource, _ tensor: SourceTensor, first: Int = 0, jobs: Int,
        _ encode: @Sendable (UnsafeMutablePointer<Float>, ChannelCode) throws -> Void
    ) throws {
        try Parallel.run((n + 15) / 16, jobs: jobs) { tile in
            let row = UnsafeMutablePointer<Float>.allocate(capacity: k)
            let code = ChannelCode(scheme: scheme, k: k)
            defer { row.deallocate() }
            for channel in tile * 16..<min(tile * 16 + 16, n) {
                try source.read(tensor, channel: first + channel, into: row)
                try QuantizedCopy.demandFinite(row, tensor, channel: first + channel)
                try encode(row, code)
                write(code, channel: channel)
            }
        }
    }

    func withBytes(_ body: (UnsafeRawBufferPointer) throws -> Void) rethrows {
        try body(UnsafeRawBufferPointer(memory))
    }

    /// The values of a channel, out[0..<k].
    func dequantize(_ channel: Int, into out: UnsafeMutablePointer<Float>) {
        guard let base = memory.baseAddress else { return }
        var matrix = Encoding.quantized(scheme).matrix(data: UnsafeRawPointer(base), n: n, k: k)
        ebb_dequantize_channel(&matrix, UInt32(channel), out)
    }
}

extension QuantizationPlan {
    /// For people: the most used treatment, and how many matrices have another.
    public var summary: String {
        var counts: [String: Int] = [:]
        for item in items where !item.tensor.isVector {
            let text =
                switch item.treatment {
                case .source: "as in the source"
                case .float(let encoding): encoding.summary
                case .quantized(let scheme, let method, let fixed):
                    "\(scheme.summary), \(method.rawValue)\(fixed ? ", fixed input scales" : "")"
                }
            counts[text, default: 0] += 1
        }
        let sorted = counts.sorted { ($0.value, $1.key) > ($1.value, $0.key) }
        guard let first = sorted.first else { return "nothing" }
        let others = sorted.dropFirst().reduce(0) { $0 + $1.value }
        return others == 0 ? first.key : "\(first.key) (\(others) of \(others + first.value) matrices otherwise)"
    }
}
