import Engine

/// A model that is run layer by layer over calibration texts: quantizers look at each weight's inputs, replace weights by
/// their quantized values (``LayeredModel/substitute(_:fill:)``), and go on to the next layer.
public final class LayerWalk {
    /// Rows that a product reads, and the names of the weights that read them.
    public struct Input {
        public let weights: [String]
        /// [count][k].
        public let rows: UnsafePointer<Float>
        public let count: Int
        public let k: Int
    }

    /// Queries (scaled), keys and values of an encoder's attention, [count][hidden].
    public struct AttentionInput {
        public let layer: Int
        public let query, key, value: UnsafePointer<Float>
        public let count: Int
        public let width: Int
    }

    private enum Kind {
        case encoder(EncoderModel, [ArraySlice<EncoderText>])
        case decoder(DecoderModel, [[Int32]])
    }

    private let kind: Kind
    /// The residual stream of each piece before the next layer.
    private var states: [AnonymousMemory] = []
    /// The next layer; a decoder's output head counts as one.
    public private(set) var layer = 0

    public var model: LayeredModel {
        switch kind {
        case .encoder(let model, _): model
        case .decoder(let model, _): model
        }
    }

    /// - Parameter texts: tokens of each text; a decoder's texts are cut to a step's length.
    /// - Throws: ``EngineError`` where there is no text to run.
    public init(_ model: LayeredModel, texts: [[Int32]]) throws {
        let texts = texts.filter { !$0.isEmpty }
        guard !texts.isEmpty else { throw EngineError("there is no text to calibrate with") }
        switch model {
        case let model as EncoderModel:
            let texts = texts.map { EncoderText($0) }
            try texts.forEach(model.check)
            kind = .encoder(model, model.pieces(texts))
        case let model as DecoderModel:
            kind = .decoder(model, texts.map { Array($0.prefix(min(model.rowLimit, model.contextLimit))) })
        default: throw EngineError("this kind of model cannot be calibrated")
        }
    }

    /// Embeds the texts: what the first layer reads. Call it again after the embeddings have changed.
    public func start() throws {
        layer = 0
        states = []
        try forEachPiece { index, hidden, count in
            states.append(try AnonymousMemory(byteCount: count * 4))
            states[index].base.assumingMemoryBound(to: Float.self).update(from: hidden, count: count)
        } run: { _ in
        }
    }

    /// Runs the next layer without going past it, for what it shows.
    public func look(onInput: @escaping (Input) -> Void, onAttention: @escaping (AttentionInput) -> Void = { _ in })
        throws
    {
        model.probe = Probe(model, onInput: onInput, onAttention: onAttention)
        defer { model.probe = nil }
        try runLayer { _, _, _ in }
    }

    /// Runs the next layer, and hands over the residual stream of each piece after it; after a decoder's output head, the
    /// logits of its rows instead.
    func results(advancing: Bool, _ body: (Int, UnsafeBufferPointer<Float>) throws -> Void) throws {
        try runLayer { index, hidden, count in
            if case .decoder(let model, _) = kind, layer == model.config.layers {
                return try body(index, UnsafeBufferPointer(model.lastLogits))
            }
            try body(index, UnsafeBufferPointer(start: hidden, count: count))
            guard advancing else { return }
            states[index].base.assumingMemoryBound(to: Float.self).update(from: hidden, count: count)
        }
        if advancing { layer += 1 }
    }

    /// Runs the next layer and goes past it.
    public func advance() throws {
        try runLayer { index, hidden, count in
            states[index].base.assumingMemoryBound(to: Float.self).update(from: hidden, count: count)
        }
        layer += 1
    }

    /// What an encoder makes of the residual streams as they are; empty for decoders.
    public func embeddings() -> [[Float]] {
        guard case .encoder(let model, _) = kind else { return [] }
        var found: [[Float]] = []
        try? forEachPiece { _, _, _ in
        } run: { index in
            restore(index, into: model.residual)
            found += model.pooled().map { $0 ?? [] }
        }
        return found
    }

    private func runLayer(_ after: (Int, UnsafeMutablePointer<Float>, Int) throws -> Void) throws {
        try forEachPiece(after) { index in
            switch kind {
            case .encoder(let model, _):
                restore(index, into: model.residual)
                model.runLayer(layer)
            case .decoder(let model, _):
                restore(index, into: model.residual)
                try model.runLayer(layer)
            }
        }
    }

    private func restore(_ index: Int, into hidden: UnsafeMutablePointer<Float>) {
        let state = states[index]
        hidden.update(from: state.base.assumingMemoryBound(to: Float.self), count: state.byteCount / 4)
    }

    /// Prepares each piece, runs something on it, and hands over its residual stream.
    private func forEachPiece(
        _ after: (Int, UnsafeMutablePointer<Float>, Int) throws -> Void, run: (Int) throws -> Void
    ) throws {
        switch kind {
        case .encoder(let model, let pieces):
            for (index, piece) in pieces.enumerated() {
                try model.begin(piece)
                try run(index)
                try after(index, model.residual, model.rowCount * model.config.hidden)
            }
        case .decoder(let model, let pieces):
            for (index, tokens) in pieces.enumerated() {
                try model.withSingleSequence(tokens) {
                    try run(index)
                    try after(index, model.residual, tokens.count * model.config.hidden)
                }
            }
        }
    }
}

private final class Probe: ActivationProbe {
    private let model: LayeredModel
    private let onInput: (LayerWalk.Input) -> Void
    private let onAttention: (LayerWalk.AttentionInput) -> Void

    init(
        _ model: LayeredModel, onInput: @escaping (LayerWalk.Input) -> Void,
        onAttention: @escaping (LayerWalk.AttentionInput) -> Void
    ) {
        (self.model, self.onInput, self.onAttention) = (model, onInput, onAttention)
    }

    func input(_ rows: UnsafePointer<Float>, count: Int, k: Int, of weights: [LinearRef]) {
        onInput(.init(weights: weights.map(model.name), rows: rows, count: count, k: k))
    }

    func attention(
        layer: Int, query: UnsafePointer<Float>, key: UnsafePointer<Float>, value: UnsafePointer<Float>, count: Int,
        stride: Int
    ) {
        let width = (model as? EncoderModel)?.config.hidden ?? 0
        func hear(_ query: UnsafePointer<Float>, _ key: UnsafePointer<Float>, _ value: UnsafePointer<Float>) {
            onAttention(.init(layer: layer, query: query, key: key, value: value, count: count, width: width))
        }
        guard stride != width else { return hear(query, key, value) }
        let dense = [query, key, value].map { rows in
            (0..<count * width).map { rows[$0 / width * stride + $0 % width] }
        }
        dense[0].withUnsafeBufferPointer { query in
            dense[1].withUnsafeBufferPointer { key in
                dense[2].withUnsafeBufferPointer { value in
                    guard let query = query.baseAddress, let key = key.baseAddress, let value = value.baseAddress
                    else { return }
                    hear(query, key, value)
                }
            }
        }
    }
}
