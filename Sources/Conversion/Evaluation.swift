import CKernels
import Foundation
import ModelFormat
import Quantization

/// What a quantized model has lost against another: in its weights, and in its outputs.
public struct Evaluation: Sendable {
    public struct Matrix: Sendable {
        public let name: String
        public let encoding: Encoding
        public let n, k, bytes: Int
        /// 10 log10(Σ w² / Σ (w - w')²), in decibels; infinite where nothing differs.
        public let sqnr: Double
    }

    public let path: String
    public let bytes: Int
    public let matrices: [Matrix]
    public let loss: OutputLoss

    /// - Parameters:
    ///   - expanded: whether the model is measured in dequantized mode.
    ///   - reference: outputs of the model to compare with.
    /// - Throws: ``FormatError`` where the two do not have the same matrices.
    public init(
        _ file: EbbFile, against source: any ModelSource, _ reference: ReferenceOutputs, expanded: Bool, threads: Int,
        progress: (Double) -> Void = { _ in }
    ) throws {
        path = file.path
        bytes = file.byteCount
        matrices = try Self.weights(file, source, jobs: threads, progress: progress)
        loss = try reference.loss(of: try RunnableModel(EbbSource(file), expanded: expanded, threads: threads))
    }

    private static func weights(
        _ file: EbbFile, _ source: any ModelSource, jobs: Int, progress: (Double) -> Void
    ) throws -> [Matrix] {
        let tensors = source.tensors.filter { !$0.isVector }
        var found: [Matrix] = []
        for (index, tensor) in tensors.enumerated() {
            guard let shape = file.tensors[tensor.name]?.shape, shape.n == tensor.n, shape.k == tensor.k,
                case .matrix(let encoding) = shape.layout
            else { throw FormatError("\(file.path) has no matrix \(tensor.name) [\(tensor.n), \(tensor.k)]") }
            let ratio = try Self.ratio(file, source, tensor, jobs: jobs)
            found.append(
                Matrix(
                    name: tensor.name, encoding: encoding, n: tensor.n, k: tensor.k, bytes: shape.byteCount ?? 0,
                    sqnr: 10 * log10(ratio)))
            progress(Double(index + 1) / Double(tensors.count))
        }
        return found
    }

    /// Σ w² / Σ (w - w')².
    private static func ratio(
        _ file: EbbFile, _ source: any ModelSource, _ tensor: SourceTensor, jobs: Int
    ) throws -> Double {
        let candidate = EbbSource(file)
        let smoothing = file.vector("\(tensor.name).input_smoothing")
        let sums = UnsafeMutablePointer<(signal: Double, noise: Double)>.allocate(capacity: tensor.n)
        sums.initialize(repeating: (0, 0), count: tensor.n)
        defer { sums.deallocate() }
        // Each piece writes the sums of its own channels.
        nonisolated(unsafe) let out = sums
        try Parallel.run((tensor.n + 63) / 64, jobs: jobs) { piece in
            let a = UnsafeMutablePointer<Float>.allocate(capacity: tensor.k)
            let b = UnsafeMutablePointer<Float>.allocate(capacity: tensor.k)
            defer {
                a.deallocate()
                b.deallocate()
            }
            for channel in piece * 64..<min(piece * 64 + 64, tensor.n) {
                try source.read(tensor, channel: channel, into: a)
                try candidate.read(tensor, channel: channel, into: b)
                var (signal, noise) = (0.0, 0.0)
                for i in 0..<tensor.k {
                    let difference = a[i] - b[i] / (smoothing?[i] ?? 1)
                    signal += Double(a[i] * a[i])
                    noise += Double(difference * difference)
                }
                out[channel] = (signal, noise)
            }
        }
        let total = (0..<tensor.n).reduce(into: (0.0, 0.0)) {
            $0.0 += sums[$1].signal
            $0.1 += sums[$1].noise
        }
        return total.1 > 0 ? total.0 / total.1 : .infinity
    }
}
