import ModelFormat

/// What decoders and encoders share: weights in the mapping, and a mode for each layer and each expert of a layer, its
/// units.
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
    private var expansions: [ExpandedUnit?]
    /// Stand-ins for weights, while a model is calibrated.
    private var substitutes: [String: AnonymousMemory] = [:]

    /// - Parameter layers: with a decoder's output head.
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
        layerCount = layers
        units = ModeUnits(weights, layers: layers)
        expansions = Array(repeating: nil, count: units.count)
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

    // MARK: Modes

    /// Layers, a decoder's output head counting as one, the last.
    public let layerCount: Int
    private let units: ModeUnits
    /// What has a mode of its own: the layers, and after them the experts of the first layer, of the second, and so on.
    public var unitCount: Int { units.count }
    /// Experts of all layers.
    public var expertCount: Int { unitCount - layerCount }

    /// Experts of each layer that has some.
    public var expertsOfLayer: Int { units.expertsOfLayer }

    /// A layer's own unit, and those of its experts.
    public func units(of layer: Int) -> [Int] { [layer] + units.experts(of: layer) }

    /// The layer that a unit is, or is an expert of.
    public func layer(of unit: Int) -> Int { units.layer(of: unit) }

    /// Of the rows that lately went through a unit's layer, weighed by experts, what share it had: 1 for a layer, and the
    /// sum over a layer's experts is 1.
    public func heat(of unit: Int) -> Double {
        unit < layerCount ? 1 : expertUse?.share(unit - layerCount) ?? 1 / Double(units.expertsOfLayer)
    }

    /// Where rows went lately, in models with experts.
    var expertUse: ExpertUse? { nil }

    /// Bytes that a unit's expansion takes.
    public func expandedBytes(_ unit: Int) -> Int {
        units.linears(of: unit).reduce(0) { $0 + $1.pointee.expandedBytes(precision) }
    }

    /// Whether every matrix is quantized in the file.
    private(set) lazy var isQuantized = (0..<unitCount).allSatisfy {
        units.linears(of: $0).allSatisfy(\.pointee.isQuantized)
    }

    public func isExpanded(_ unit: Int) -> Bool { expansions[unit] != nil }

    public var expandedLayers: Int { expansions[..<layerCount].count { $0 != nil } }

    public var expandedExperts: Int { expansions[layerCount...].count { $0 != nil } }

    /// Bytes of all expansions in place.
    public private(set) var expandedBytes = 0

    /// Bytes of the weights in the file.
    public var mappedBytes: Int { file.byteCount }

    /// The work of expanding a unit.
    /// - Throws: ``EngineError`` where the system refuses the memory.
    public func expansion(of unit: Int) throws -> UnitExpansion {
        let linears = units.linears(of: unit).map(\.pointee)
        return try UnitExpansion(
            unit: unit, matrices: linears.map(\.mapped), smoothing: linears.map(\.fixedInput?.smoothing),
            precision: precision, kernels: kernels)
    }

    /// Expands a unit, here and now, in some milliseconds.
    /// - Throws: ``EngineError`` where the system refuses the memory.
    public func expand(_ unit: Int) throws {
        let work = try expansion(of: unit)
        while true {
            if let expanded = work.advance(pool) { return install(expanded) }
        }
    }

    /// Puts an expansion to use: from the next step on the unit is dequantized.
    public func install(_ expanded: ExpandedUnit) {
        use(expanded)
        expandedBytes += expanded.byteCount - (expansions[expanded.unit]?.byteCount ?? 0)
        expansions[expanded.unit] = expanded
        if isBypassed { bypass(expanded.unit) }
    }

    private func use(_ expanded: ExpandedUnit) {
        for (ref, base) in zip(units.linears(of: expanded.unit), expanded.bases) {
            if let base { ref.pointee.use(expansion: base, precision) }
        }
    }

    /// Drops a unit's expansion: from the next step on it runs in memory_low. Its memory goes back at once.
    public func drop(_ unit: Int) {
        bypass(unit)
        expandedBytes -= expansions[unit]?.byteCount ?? 0
        expansions[unit] = nil
    }

    /// Expands or drops all units, here and now.
    public func setAll(expanded: Bool) throws {
        for unit in 0..<unitCount where isExpanded(unit) != expanded {
            if expanded { try expand(unit) } else { drop(unit) }
        }
    }

    // MARK: Speed

    /// While it is set, the next steps run in memory_low although units are expanded: where one mode is faster in
    /// prefill and the other in decode.
    public var isBypassed = false {
        didSet {
            guard isBypassed != oldValue else { return }
            for expanded in expansions.compactMap({ $0 }) {
                if isBypassed { bypass(expanded.unit) } else { use(expanded) }
            }
        }
    }

    private func bypass(_ unit: Int) {
        for ref in units.linears(of: unit) { ref.pointee.dropExpansion() }
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
            for (ref, base) in zip(units.linears(of: expanded.unit), expanded.bases) where parts.contains(ref) {
                if let base { ref.pointee.use(expansion: base, precision) }
            }
        }
    }
}
