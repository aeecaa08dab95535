import EbbProtocol
import Engine
import Governor
import ModelFormat

/// A loaded model with the requests that run on it; ``HostedDecoder`` and ``HostedEncoder`` say what these are. Used by
/// the engine thread alone.
class HostedModel {
    let name: String
    let model: LayeredModel
    var wish: ModelState.Wish
    var choice: StateFolder.Choice
    /// What the modes cost, once it has been measured.
    var costs: ModeCosts?
    /// Times that a layer changed its mode.
    private(set) var modeChanges = 0
    /// Steps since the model was loaded.
    private(set) var steps = 0
    private(set) var isParked = false
    /// Prompt and generated tokens since it was loaded.
    var promptTokens = 0
    var generatedTokens = 0
    /// When pressure last took each layer's expansion.
    private var drops: [Double]
    private var lastActive = MonotonicClock.now()
    private var holdsScratch = true
    private let layerBytes: [Int]

    /// Seconds without a request after which the buffers of a step go back.
    private static let scratchPatience = 2.0

    init(name: String, model: LayeredModel, wish: ModelState.Wish, choice: StateFolder.Choice) {
        self.name = name
        self.model = model
        self.wish = wish
        self.choice = choice
        layerBytes = (0..<model.layerCount).map(model.expandedBytes)
        drops = Array(repeating: -.infinity, count: model.layerCount)
    }

    var activeRequests: Int { 0 }

    /// Runs one step with every request that is ready. False if there was nothing to do.
    func runStep() -> Bool { false }

    /// ``runStep()``, with what belongs to every step.
    func step() -> Bool {
        if activeRequests > 0 { lastActive = MonotonicClock.now() }
        guard runStep() else { return false }
        steps += 1
        holdsScratch = true
        if model.file.isCutShort { failAll(Self.cutShort(name)) }
        return true
    }

    /// Ends all requests.
    func failAll(_ error: ServiceError) {}

    static func cutShort(_ name: String) -> ServiceError {
        ServiceError(
            .modelUnusable, "the file of \(name) was changed while it was in use; import the model again")
    }

    // MARK: What the governor sees and does

    func state(now: Double) -> ModelState {
        let gains = costs?.gains ?? []
        let layers = layerBytes.indices.map { layer in
            ModelState.Layer(
                bytes: layerBytes[layer],
                gain: gains.count == layerBytes.count ? gains[layer] : Double(layerBytes[layer]),
                isExpanded: model.isExpanded(layer), sinceDrop: now - drops[layer])
        }
        return ModelState(
            name: name, wish: wish, preference: choice.preference,
            priority: min(max(choice.priority, -1_000_000), 1_000_000),
            layers: layers,
            isFasterExpanded: (costs?.prefillRatio ?? 0) > 1 || (costs?.decodeRatio ?? 0) > 1,
            isActive: activeRequests > 0, idle: activeRequests > 0 ? 0 : now - lastActive)
    }

    /// Whether the next step, of many rows or of few, is to run in memory_low although layers are expanded.
    func bypasses(manyRows: Bool) -> Bool {
        guard wish == .auto, choice.preference == .speed, let costs else { return false }
        return (manyRows ? costs.prefillRatio : costs.decodeRatio) <= 1
    }

    func install(_ layer: ExpandedLayer) {
        model.install(layer)
        modeChanges += 1
    }

    /// - Parameter pressure: when it is pressure that takes it.
    func drop(_ layer: Int, pressure: Double?) {
        model.drop(layer)
        modeChanges += 1
        if let pressure { drops[layer] = pressure }
    }

    /// Gives back the buffers of steps that nobody has asked for lately.
    func releaseIdleScratch(now: Double) {
        guard holdsScratch, activeRequests == 0, now - lastActive >= Self.scratchPatience else { return }
        model.discardScratch()
        holdsScratch = false
    }

    /// Drops what is kept for later requests; bytes that came back at most.
    func dropPrefixes() -> Int { 0 }

    /// Turns at most so many full blocks of the KV cache int8; how many were turned.
    func compactKV(blocks: Int) -> Int { 0 }

    /// Puts the model aside: buffers and pages go, and what is kept for later requests goes to a file.
    /// - Parameter folder: where the file may be; nil to drop it.
    /// - Returns: what could not be kept, and why.
    func park(in folder: String?) -> String? {
        model.discardScratch()
        model.file.pageOut()
        holdsScratch = false
        isParked = true
        return nil
    }

    /// Undoes ``park(in:)``; pages come by themselves.
    func wake() { isParked = false }

    var status: EbbModelStatus {
        var status = EbbModelStatus()
        status.name = name
        status.architecture = model.file.metadata.string("general.architecture") ?? ""
        status.mode = wish.protocolMode
        status.preference = choice.preference.protocolPreference
        status.priority = Int32(clamping: choice.priority)
        if let costs { status.costs = EbbModeCosts(costs) }
        status.parked = isParked
        status.layers = UInt32(model.layerCount)
        status.expandedLayers = UInt32(model.expandedLayers)
        status.mappedBytes = UInt64(model.mappedBytes)
        status.activeRequests = UInt32(activeRequests)
        status.contextTokens = UInt32(model.contextLimit)
        status.promptTokens = UInt64(promptTokens)
        status.generatedTokens = UInt64(generatedTokens)
        return status
    }

    var regions: ModelRegions {
        ModelRegions(
            mapped: model.mappedRegions, expanded: model.expandedRegions, kv: model.kvRegions,
            scratch: model.scratchRegions)
    }
}
