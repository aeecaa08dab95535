import CKernels
import Engine
import Measuring
import ModelFormat
import Quantization

/// Quantizes a model's layers in order by GPTQ: the inputs of each weight come through the quantized weights before it.
/// Embeddings, whose rows are looked up and have no inputs, are quantized by HQQ. One layer at a time is in memory.
public final class GPTQRun {
    private let source: any ModelSource
    private let walk: LayerWalk
    private let jobs: Int
    private let kernels: Kernels
    private var substituted: [String] = []
    private var items: [String: QuantizationPlan.Item] = [:]
    private var finished: [String: EncodedMatrix] = [:]
    private var started = false

    /// - Parameters:
    ///   - model: the source, not expanded.
    ///   - texts: calibration texts in tokens.
    public init(
        _ source: any ModelSource, _ plan: QuantizationPlan, model: RunnableModel, texts: [[Int32]], jobs: Int
    ) throws {
        (self.source, self.jobs) = (source, jobs)
        walk = try LayerWalk(model.model, texts: texts)
        kernels = try Kernels.fromEnvironment()
        for item in plan.items { items[item.tensor.name] = item }
    }

    /// The codes of a matrix; nil for those that the copy quantizes by itself. Matrices must be asked for in the plan's order.
    public func codes(_ item: QuantizationPlan.Item) throws -> EncodedMatrix? {
        guard item.treatment.needsCalibration else { return nil }
        if let done = finished.removeValue(forKey: item.tensor.name) { return done }
        if QuantizationPlan.layer(of: item.tensor.name) == nil { return try lookedUp(item) }
        if !started {
            started = true
            try walk.start()
            restore()
        }
        while finished[item.tensor.name] == nil {
            guard walk.layer < walk.model.layerCount else {
                throw FormatError("\(item.tensor.name) is no part of a layer that could be calibrated")
            }
            try quantizeLayer()
        }
        return finished.removeValue(forKey: item.tensor.name)
    }

    /// A table of embeddings: what the layers see from now on is its quantized form.
    private func lookedUp(_ item: QuantizationPlan.Item) throws -> EncodedMatrix? {
        guard case .quantized(let scheme, _, _) = item.treatment else { return nil }
        let quantizer = BlockQuantizer(scheme: scheme, method: .hqq)
        let encoded = try encode(item, scheme) { row, code in try quantizer.encode(row, into: code) }
        try walk.model.substitute(item.tensor.name) { encoded.dequantize($0, into: $1) }
        substituted.append(item.tensor.name)
        return encoded
    }

    /// Quantizes the weights of the next layer, a group with a common input after the other, and goes past it.
    private func quantizeLayer() throws {
        let layer = walk.layer
        // What is quantized in the source computes with floats here; what is float stays in the mapping.
        let units = walk.model.units(of: layer)
        for unit in units { try walk.model.expand(unit) }
        defer {
            restore()
            for unit in units { walk.model.drop(unit) }
        }
        var groups: [[String]] = []
        try walk.look(onInput: { input in if !groups.contains(input.weights) { groups.append(input.weights) } })
        for group in groups {
            let wanted = group.compactMap { items[$0] }.filter { $0.treatment.needsCalibration }
            guard let first = wanted.first, finished[first.tensor.name] == nil else { continue }
            let gram = GramMatrix(k: first.tensor.k)
            try walk.look(onInput: { input in
                if input.weights == group { gram.add(input.rows, count: input.count) }
            })
            for item in wanted { try quantize(item, gram) }
        }
        try walk.advance()
    }

    private func restore() {
        for name in substituted { walk.model.restore(name) }
        substituted = []
    }

    private func quantize(_ item: QuantizationPlan.Item, _ gram: GramMatrix) throws {
        guard case .quantized(let scheme, _, _) = item.treatment else { return }
        let gptq = try GPTQ(scheme: scheme, gram: gram)
        let encoded = try encode(item, scheme) { row, code in try gptq.encode(row, into: code) }
        try walk.model.substitute(item.tensor.name) { encoded.dequantize($0, into: $1) }
        substituted.append(item.tensor.name)
        finished[item.tensor.name] = encoded
    }

    private func encode(
        _ item: QuantizationPlan.Item, _ scheme: Scheme,
        _ encode: @Sendable (UnsafeMutablePointer<Float>, ChannelCode) throws -> Void
    ) throws -> EncodedMatrix {
        let encoded = EncodedMatrix(scheme: scheme, n: item.tensor.n, k: item.tensor.k)
        try encoded.fill(from: source, item.tensor, jobs: jobs, encode)
        return encoded
    }
}
