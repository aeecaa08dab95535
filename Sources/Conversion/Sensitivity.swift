import Engine
import ModelFormat
import Quantization

/// How much a model's output suffers from the quantization of each of its matrices.
public struct Sensitivity: Sendable {
    /// Predicted loss of each width of one matrix, all others being exact.
    public struct Matrix: Sendable {
        public let tensor: SourceTensor
        /// For widths 2...8, by width - 2.
        public let losses: [Double]
    }

    public let matrices: [Matrix]
    public let block: Int
    public let asymmetric: Bool

    /// The width whose loss is measured. Of the others it is predicted by the weight error: near the optimum the loss is
    /// quadratic in the error (LeCun et al. 1990; Dong et al. 2020).
    private static let probedBits = 3
    public static let widths = 2...8
    /// Channels that the weight error is taken from, spread over the matrix.
    private static let sampledChannels = 256

    /// - Parameters:
    ///   - model: the source with float weights.
    ///   - names: the matrices in question.
    public init(
        _ source: any ModelSource, model: RunnableModel, reference: ReferenceOutputs, names: Set<String>, block: Int,
        asymmetric: Bool, progress: (Double) -> Void = { _ in }
    ) throws {
        let tensors = source.tensors.filter { !$0.isVector && names.contains($0.name) }
        var found: [Matrix] = []
        for (index, tensor) in tensors.enumerated() {
            let errors = try Self.errors(
                source, tensor, try Self.widths.map { try Scheme(bits: $0, block: block, asymmetric: asymmetric) })
            let probe = try Scheme(bits: Self.probedBits, block: block, asymmetric: asymmetric)
            let quantizer = BlockQuantizer(scheme: probe, method: .mse)
            let code = ChannelCode(scheme: probe, k: tensor.k)
            try model.model.substitute(tensor.name) { channel, row in
                try source.read(tensor, channel: channel, into: row)
                try quantizer.encode(row, into: code)
                code.dequantize(into: row)
            }
            let loss = max(try reference.loss(of: model).value, 0)
            model.model.restore(tensor.name)
            let measured = errors[Self.probedBits - Self.widths.lowerBound]
            found.append(
                Matrix(tensor: tensor, losses: errors.map { measured > 0 ? loss * $0 / measured : 0 }))
            progress(Double(index + 1) / Double(tensors.count))
        }
        (matrices, self.block, self.asymmetric) = (found, block, asymmetric)
    }

    /// Squared error of a sample of channels under each scheme.
    private static func errors(
        _ source: any ModelSource, _ tensor: SourceTensor, _ schemes: [Scheme]
    ) throws -> [Double] {
        let quantizers = schemes.map { BlockQuantizer(scheme: $0, method: .mse) }
        let codes = schemes.map { ChannelCode(scheme: $0, k: tensor.k) }
        let row = UnsafeMutablePointer<Float>.allocate(capacity: tensor.k)
        let decoded = UnsafeMutablePointer<Float>.allocate(capacity: tensor.k)
        defer {
            row.deallocate()
            decoded.deallocate()
        }
        var sums = [Double](repeating: 0, count: schemes.count)
        for channel in stride(from: 0, to: tensor.n, by: max(1, tensor.n / sampledChannels)) {
            try source.read(tensor, channel: channel, into: row)
            for index in schemes.indices {
                try quantizers[index].encode(row, into: codes[index])
                codes[index].dequantize(into: decoded)
                for i in 0..<tensor.k { sums[index] += Double((row[i] - decoded[i]) * (row[i] - decoded[i])) }
            }
        }
        return sums
    }

    /// Widths for the matrices, chosen greedily: from 8 bits down, always the step that loses least for each byte it
    /// saves, while `goOn` agrees with the bytes now and the predicted loss after the step.
    public func widths(while goOn: (_ bytes: Int, _ lossAfter: Double) -> Bool) throws -> [String: Int] {
        var bits = Array(repeating: Self.widths.upperBound, count: matrices.count)
        func bytes(_ index: Int, _ width: Int) throws -> Int {
            let tensor = matrices[index].tensor
            let scheme = try Scheme(bits: width, block: block, asymmetric: asymmetric)
            return Encoding.quantized(scheme).byteCount(n: tensor.n, k: tensor.k) ?? 0
        }
        func loss(_ index: Int, _ width: Int) -> Double { matrices[index].losses[width - Self.widths.lowerBound] }
        var size = try matrices.indices.reduce(0) { try $0 + bytes($1, bits[$1]) }
        var total = matrices.indices.reduce(0.0) { $0 + loss($1, bits[$1]) }
        while true {
            var best: (index: Int, width: Int, price: Double)?
            for index in matrices.indices {
                // Wider steps too: a width that is a poor bargain must not hide a good one below it.
                for width in Self.widths where width < bits[index] {
                    let saved = Double(try bytes(index, bits[index]) - (try bytes(index, width)))
                    let price = (loss(index, width) - loss(index, bits[index])) / saved
                    if price < best?.price ?? .infinity { best = (index, width, price) }
                }
            }
            guard let best else { break }
            let change = loss(best.index, best.width) - loss(best.index, bits[best.index])
            guard goOn(size, total + change) else { break }
            size += try bytes(best.index, best.width) - (try bytes(best.index, bits[best.index]))
            total += change
            bits[best.index] = best.width
        }
        return Dictionary(uniqueKeysWithValues: zip(matrices.map(\.tensor.name), bits))
    }
}
