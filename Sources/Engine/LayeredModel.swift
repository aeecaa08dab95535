import ModelFormat

/// What decoders and encoders share: weights in the mapping, and a mode for each layer.
///
/// Used by the engine thread alone.
public class LayeredModel {
    public let file: EbbFile
    public let precision: ExpandedPrecision
    let weights: WeightSet
    let kernels: Kernels
    public let pool: WorkerPool
    let pieceThreads: PieceThreads
    /// Called between two layers of a step: a long prompt, or weights that have to be read from the disk again, must not
    /// make memory wait for the step's end. It may drop expansions.
    public var betweenLayers: (() -> Void)?
    private var expansions: [ExpandedLayer?]
    /// Stand-ins for weights, while a model is calibrated.
    private var substitutes: [String: AnonymousMemory] = [:]

    init(
        _ file: EbbFile, _ weights: WeightSet, layers: Int, precision: ExpandedPrecision, kernels: Kernels,
        pool: WorkerPool
    ) {
        self.file = file
        self.kernels = kernels
        self.pool = pool
        pieceThreads = PieceThreads(pool)
        self.weights = weights
        self.precision = precision
        expansions = Array(repeating: nil, count: layers)
    }

    /// The mappings of the weights, of their expansions, of the KV cache, and of buffers for a step's rows and results.
    /// Only what has been used of them is in RAM.
    public var mappedRegions: [MemoryRegion] { [MemoryRegion(file.bytes)] }
    public var expandedRegions: [MemoryRegion] { expansions.compactMap { $0?.memory.region } }
    public var kvRegions: [MemoryRegion] { [] }
    public var scratchRegions: [MemoryRegion] { [] }

    /// Bytes of buffers that the largest step uses.
    public var scratchBytes: Int { 0 }

    /// Gives the pages of the buffers back. Between two steps they hold nothing.
    public func discardScratch() {}

    /// Bytes of the KV cache in use.
    public var kvBytes: Int { 0 }

    /// Tokens of a sequence at most.
    public var contextLimit: Int { 0 }

    /// Layers that can be expanded; a decoder's output head counts as one, the last.
    public var layerCount: Int { expansions.count }

    /// Bytes that a layer's expansion takes.
    public func expandedBytes(_ layer: Int) -> Int {
        weights.linears(of: layer).reduce(0) { $0 + $1.pointee.expandedBytes(precision) }
    }

    /// Whether every matrix is quantized in the file.
    private(set) lazy var isQuantized = (0..<layerCount).allSatisfy {
        weights.linears(of: $0).allSatisfy(\.pointee.isQuantized)
    }

    public func isExpanded(_ layer: Int) -> Bool { expansions[layer] != nil }

    public var expandedLayers: Int { expansions.count { $0 != nil } }

    /// Bytes of all expansions in place.
    public var expandedBytes: Int { expansions.reduce(0) { $0 + ($1?.byteCount ?? 0) } }

    /// Bytes of the weights in the file.
    public var mappedBytes: Int { file.byteCount }

    /// The work of expanding a layer.
    /// - Throws: ``EngineError`` where the system refuses the memory.
    public func expansion(of layer: Int) throws -> LayerExpansion {
        let linears = weights.linears(of: layer).map(\.pointee)
        return try LayerExpansion(
            layer: layer, matrices: linears.map(\.mapped), smoothing: linears.map(\.fixedInput?.smoothing),
            precision: precision, kernels: kernels)
    }

    /// Expands a layer, here and now, in some milliseconds.
    /// - Throws: ``EngineError`` where the system refuses the memory.
    public func expand(_ layer: Int) throws {
        let work = try expansion(of: layer)
        while true {
            if let expanded = work.advance(pool) { return install(expanded) }
        }
    }

    /// Puts an expansion to use: from the next step on the layer is dequantized.
    public func install(_ expanded: ExpandedLayer) {
        for (ref, base) in zip(weights.linears(of: expanded.layer), expanded.bases) {
            if let base { ref.pointee.use(expansion: base, precision) }
        }
        expansions[expanded.layer] = expanded
        if isBypassed { bypass(expanded.layer) }
    }

    /// Drops a layer's expansion: from the next step on it runs in memory_low. Its memory goes back at once.
    public func drop(_ layer: Int) {
        for ref in weights.linears(of: layer) { ref.pointee.dropExpansion() }
        expansions[layer] = nil
    }

    /// Expands or drops all layers, here and now.
    public func setAll(expanded: Bool) throws {
        for layer in 0..<layerCount where isExpanded(layer) != expanded {
            if expanded { try expand(layer) } else { drop(layer) }
        }
    }

    // MARK: Speed

    /// While it is set, the next steps run in memory_low although layers are expanded: where one mode is faster in
    /// prefill and the other in decode.
    public var isBypassed = false {
        didSet {
            guard isBypassed != oldValue else { return }
            for expanded in expansions.compactMap({ $0 }) {
                if isBypassed { bypass(expanded.layer) } else { install(expanded) }
            }
        }
    }

    private func bypass(_ layer: Int) {
        for ref in weights.linears(of: layer) { ref.pointee.dropExpansion() }
    }

    // MARK: Calibration

    /// Hears the inputs of products while it is set.
    package var probe: (any ActivationProbe)? {
        get { nil }
        set {}
    }

    /// The tensor that a weight lies in.
    package func name(of weight: LinearRef) -> String { weights.name(of: weight) }

    /// Output and input channels of a matrix.
    /// - Throws: ``EngineError`` for an unknown name.
    public func shape(of name: String) throws -> (n: Int, k: Int) {
        let parts = weights.parts(of: name)
        guard let first = parts.first else {
            throw EngineError(.unusable, "the model has no matrix named \(name)")
        }
        return (parts.reduce(0) { $0 + $1.ref.pointee.outputs }, Int(first.ref.pointee.mapped.k))
    }

    /// Computes with other values of a matrix, f32, until ``restore(_:)``: `fill` writes channel `i` (k values).
    /// - Throws: ``EngineError`` for an unknown name, or where the system refuses the memory.
    public func substitute(_ name: String, fill: (Int, UnsafeMutablePointer<Float>) throws -> Void) throws {
        let (n, k) = try shape(of: name)
        let memory = try AnonymousMemory(byteCount: (n + 15) / 16 * 16 * k * 4)
        let tiles = memory.base.assumingMemoryBound(to: Float.self)
        let row = UnsafeMutablePointer<Float>.allocate(capacity: k)
        defer { row.deallocate() }
        for channel in 0..<n {
            try fill(channel, row)
            let lane = tiles + channel / 16 * 16 * k + channel % 16
            for i in 0..<k { lane[i * 16] = row[i] }
        }
        for part in weights.parts(of: name) { part.ref.pointee.substitute(memory.base + part.firstChannel * k * 4) }
        substitutes[name] = memory
    }

    /// Ends a substitution.
    public func restore(_ name: String) {
        let parts = Set(weights.parts(of: name).map(\.ref))
        for part in parts { part.pointee.dropExpansion() }
        substitutes[name] = nil
        for expanded in expansions.compactMap({ $0 }) {
            for (ref, base) in zip(weights.linears(of: expanded.layer), expanded.bases) where parts.contains(ref) {
                if let base { ref.pointee.use(expansion: base, precision) }
            }
        }
    }
}
