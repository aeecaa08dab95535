import Engine

/// What the two modes of a model cost on this machine.
public struct ModeCosts: Sendable, Equatable, Codable {
    /// Speed of dequantized over that of memory_low, for steps of many rows and of one.
    public var prefillRatio: Double
    public var decodeRatio: Double
    /// Mean KL divergence of memory_low from dequantized, nats a token; for encoders 1 - cosine of the embeddings.
    public var loss: Double
    /// For each layer, the relative squared error that memory_low adds to what the layer puts out: what its expansion
    /// gains.
    public var gains: [Double]
    /// The same for all experts of each layer together, which are not counted in ``gains``; empty where there are none.
    public var expertGains: [Double]

    public init(
        prefillRatio: Double, decodeRatio: Double, loss: Double, gains: [Double], expertGains: [Double] = []
    ) {
        self.prefillRatio = prefillRatio
        self.decodeRatio = decodeRatio
        self.loss = loss
        self.gains = gains
        self.expertGains = expertGains
    }

    /// What was kept before there were experts says nothing of them.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            prefillRatio: try values.decode(Double.self, forKey: .prefillRatio),
            decodeRatio: try values.decode(Double.self, forKey: .decodeRatio),
            loss: try values.decode(Double.self, forKey: .loss),
            gains: try values.decode([Double].self, forKey: .gains),
            expertGains: try values.decodeIfPresent([Double].self, forKey: .expertGains) ?? [])
    }
}

/// Measures ``ModeCosts`` in a second or so: a short text goes through the layers in both modes at once, a layer's
/// expansion being there only while that layer runs. It takes the memory of one expanded layer and its experts.
public struct ModeProbe {
    private let model: LayeredModel
    private let most: Int
    private var costs = ModeCosts(prefillRatio: 1, decodeRatio: 1, loss: 0, gains: [])
    /// Seconds of each mode, for many rows and for one.
    private var seconds = (lowMany: 0.0, wideMany: 0.0, lowOne: 0.0, wideOne: 0.0)

    /// Some everyday prose; the first of it is enough to tell one layer from another.
    private static let text = """
        The harbour was quiet that morning. A small boat came in with its engine off, and the man at the bow threw a rope to \
        the boy who waited on the pier. "How much did you catch?" the boy asked. Enough for the two of us, he said, and for \
        your sister, if she comes home before dark. In 1998 the town had 2,400 people; today there are fewer than 900.
        """

    /// - Parameter most: bytes that the expansion of one layer may take.
    /// - Throws: ``EngineError`` where a layer takes more, or memory is refused.
    public static func run(_ model: LayeredModel, mostBytes most: Int) throws -> ModeCosts {
        var probe = ModeProbe(model, most)
        try probe.measure()
        return probe.costs
    }

    private init(_ model: LayeredModel, _ most: Int) {
        self.model = model
        self.most = most
    }

    private mutating func measure() throws {
        let texts = texts()
        let (wide, low) = (try LayerWalk(model, texts: texts), try LayerWalk(model, texts: texts))
        let one = try LayerWalk(model, texts: [[texts[0][0]]])
        for walk in [wide, low, one] { try walk.start() }
        for layer in 0..<model.layerCount {
            if layer == (model as? DecoderModel)?.config.layers {
                try compareHeads(wide, low, one, layer)
            } else {
                try compare(wide, low, one, layer)
            }
        }
        if let model = model as? EncoderModel {
            // One score has no angle; of rows with independent errors 1 - cosine would be half of their squares.
            costs.loss =
                model.config.isReranker
                ? costs.gains.reduce(0, +) / 2 : Self.distance(wide.embeddings(), low.embeddings())
        }
        costs.prefillRatio = Self.ratio(seconds.lowMany, seconds.wideMany)
        costs.decodeRatio = Self.ratio(seconds.lowOne, seconds.wideOne)
    }

    private func texts() -> [[Int32]] {
        switch model {
        case let model as DecoderModel:
            let tokens = model.tokenizer.encode(Self.text, addSpecial: true, parseSpecial: false)
            return stride(from: 0, to: tokens.count, by: DecoderModel.logitsRows).map {
                Array(tokens[$0..<min($0 + DecoderModel.logitsRows, tokens.count)])
            }
        case let model as EncoderModel: return Self.text.split(separator: ".").map { model.tokens(String($0)) }
        default: return [[0]]
        }
    }

    private static func ratio(_ low: Double, _ wide: Double) -> Double { wide > 0 ? low / wide : 1 }

    /// Expands some units of one layer.
    /// - Throws: ``EngineError`` where there is no room for it: half a layer says nothing of the whole.
    private func expand(_ units: some Sequence<Int>) throws {
        for unit in units {
            let bytes = model.expandedBytes(unit)
            guard model.expandedBytes + bytes <= most else {
                throw EngineError(.resources, "there is no room to expand layer \(model.layer(of: unit))")
            }
            if bytes > 0 { try model.expand(unit) }
        }
    }

    private static func time(_ body: () throws -> Void) rethrows -> Double {
        try ContinuousClock().measure(body).seconds
    }

    /// A layer of one row, a few times: the fastest.
    private static func timeOne(_ walk: LayerWalk) throws -> Double {
        var best = Double.infinity
        for _ in 0..<3 { best = min(best, try time { try walk.results(advancing: false) { _, _ in } }) }
        return best
    }

    private mutating func compare(_ wide: LayerWalk, _ low: LayerWalk, _ one: LayerWalk, _ layer: Int) throws {
        var quantized: [[Float]] = []
        try wide.results(advancing: false) { _, rows in quantized.append(Array(rows)) }
        seconds.lowMany += try Self.time { try low.results(advancing: true) { _, _ in } }
        seconds.lowOne += try Self.timeOne(one)
        let units = model.units(of: layer)
        defer { for unit in units { model.drop(unit) } }
        try expand([layer])
        if units.count > 1 {
            var without: [[Float]] = []
            costs.gains.append(try gain(wide, over: quantized, advancing: false) { without.append(Array($0)) })
            try expand(units.dropFirst())
            quantized = without
        }
        seconds.wideMany += try Self.time { try wide.results(advancing: false) { _, _ in } }
        let gain = try gain(wide, over: quantized, advancing: true) { _ in }
        if units.count > 1 { costs.expertGains.append(gain) } else { costs.gains.append(gain) }
        seconds.wideOne += try Self.timeOne(one)
        try one.advance()
    }

    /// The squared error of what a layer put out before, relative to what it puts out now.
    private func gain(
        _ walk: LayerWalk, over before: [[Float]], advancing: Bool, _ body: (UnsafeBufferPointer<Float>) -> Void
    ) throws -> Double {
        var (error, size) = (0.0, 0.0)
        try walk.results(advancing: advancing) { index, rows in
            for (a, b) in zip(rows, before[index]) {
                error += Double(a - b) * Double(a - b)
                size += Double(a) * Double(a)
            }
            body(rows)
        }
        return size > 0 ? error / size : 0
    }

    /// The output head: its logits are where the loss is measured.
    private mutating func compareHeads(_ wide: LayerWalk, _ low: LayerWalk, _ one: LayerWalk, _ layer: Int) throws {
        guard let vocabulary = (model as? DecoderModel)?.config.vocabulary else { return }
        var quantized: [[Float]] = []
        try low.results(advancing: false) { _, rows in quantized.append(Array(rows)) }
        seconds.lowMany += try Self.time { try low.results(advancing: false) { _, _ in } }
        seconds.lowOne += try Self.timeOne(one)
        // Often the largest of all: without room for it the layers still tell most.
        try? expand([layer])
        var (sum, count) = (0.0, 0)
        try wide.results(advancing: false) { index, rows in
            let exact = UnsafeMutableBufferPointer(mutating: rows)
            quantized[index].withUnsafeMutableBufferPointer { low in
                for start in stride(from: 0, to: rows.count, by: vocabulary) {
                    let a = UnsafeMutableBufferPointer(rebasing: exact[start..<start + vocabulary])
                    let b = UnsafeMutableBufferPointer(rebasing: low[start..<start + vocabulary])
                    let sums = (DecoderModel.logSumExp(a), DecoderModel.logSumExp(b))
                    sum += max(0, OutputDistance.kl(a, b, logSumExp: sums))
                    count += 1
                }
            }
        }
        seconds.wideMany += try Self.time { try wide.results(advancing: false) { _, _ in } }
        seconds.wideOne += try Self.timeOne(one)
        model.drop(layer)
        costs.loss = sum / Double(max(count, 1))
        // In the same unit as the layers': the relative squared error of what the head puts out is of that order.
        costs.gains.append(costs.gains.max() ?? 0)
    }

    /// 1 - mean cosine.
    private static func distance(_ a: [[Float]], _ b: [[Float]]) -> Double {
        let cosines = zip(a, b).map(OutputDistance.cosine)
        return 1 - cosines.reduce(0, +) / Double(max(cosines.count, 1))
    }
}
