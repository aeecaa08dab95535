import EbbProtocol
import Engine
import Governor
import Measuring
import ModelFormat

/// A loaded model with the requests that run on it; ``HostedDecoder`` and ``HostedEncoder`` say what these are. Used by
/// the engine thread alone.
protocol HostedModel: AnyObject {
    var model: LayeredModel { get }
    var record: HostedRecord { get set }

    // MARK: Requests

    /// Requests that have not been answered, waiting ones included.
    var activeRequests: Int { get }
    /// Whose requests wait for memory or for their turn.
    var waiting: [RequestOrigin] { get }
    /// Ends requests that were cancelled or are too late, and lets waiting ones begin where there is room.
    func attend(now: Double)
    /// The most urgent of the requests that could take part in a step now; nil where there are none.
    var urgency: RequestPriority? { get }
    /// Runs one step. False if there was nothing to do.
    func runStep() -> Bool
    /// Ends all requests.
    func failAll(_ error: ServiceError)

    // MARK: What is given up

    /// Bytes that are kept for later requests.
    var prefixBytes: Int { get }
    /// When what is kept and was used least recently was used; nil where nothing is kept.
    var oldestPrefix: Double? { get }
    /// Drops what is kept and was used least recently.
    func dropOldestPrefix()
    /// Drops what is kept for later requests; bytes that came back at most.
    func dropPrefixes() -> Int
    /// Turns at most so many full blocks of the KV cache int8; how many were turned.
    func compactKV(blocks: Int) -> Int
    /// Puts the model aside: buffers and pages go, and what is kept for later requests goes to a file.
    /// - Parameter folder: where the file may be; nil to drop it.
    /// - Returns: what could not be kept, and why.
    func park(in folder: String?) -> String?
    /// Undoes ``park(in:)``; pages come by themselves.
    func wake()

    var status: EbbModelStatus { get }
    /// What it has mapped beside the model.
    var adapterRegions: [MemoryRegion] { get }
}

/// What is known of any hosted model.
struct HostedRecord {
    let name: String
    var wish: ModelState.Wish
    var choice: StateFolder.Choice
    /// What the modes cost, once it has been measured.
    var costs: ModeCosts?
    /// Times that a unit changed its mode.
    fileprivate(set) var modeChanges = 0
    /// Steps since the model was loaded.
    fileprivate(set) var steps = 0
    fileprivate(set) var isParked = false
    /// Prompt and generated tokens since it was loaded.
    var promptTokens = 0
    var generatedTokens = 0
    /// When each unit's expansion was last taken away.
    fileprivate var drops: [Double]
    fileprivate var lastActive = MonotonicClock.now()
    fileprivate var holdsScratch = true
    fileprivate let unitBytes: [Int]

    /// Seconds without a request after which the buffers of a step go back.
    fileprivate static let scratchPatience = 2.0

    init(name: String, model: LayeredModel, wish: ModelState.Wish, choice: StateFolder.Choice) {
        self.name = name
        self.wish = wish
        self.choice = choice
        unitBytes = (0..<model.unitCount).map(model.expandedBytes)
        drops = Array(repeating: -.infinity, count: model.unitCount)
    }
}

extension HostedModel {
    var name: String { record.name }
    var wish: ModelState.Wish {
        get { record.wish }
        set { record.wish = newValue }
    }
    var choice: StateFolder.Choice {
        get { record.choice }
        set { record.choice = newValue }
    }
    var costs: ModeCosts? {
        get { record.costs }
        set { record.costs = newValue }
    }
    var modeChanges: Int { record.modeChanges }
    var steps: Int { record.steps }
    var isParked: Bool { record.isParked }

    /// ``runStep()``, with what belongs to every step.
    func step() -> Bool {
        guard runStep() else { return false }
        record.steps += 1
        record.holdsScratch = true
        record.lastActive = MonotonicClock.now()
        if model.file.isCutShort { failAll(.changedFile(name)) }
        return true
    }

    /// Whether what a step has computed may be given out as a result: the file is what it was.
    var isFileIntact: Bool { model.file.isIntact }

    // MARK: What the governor sees and does

    func state(now: Double) -> ModelState {
        let units = record.unitBytes.indices.map { unit in
            ModelState.Unit(
                bytes: record.unitBytes[unit], gain: gain(of: unit), isExpanded: model.isExpanded(unit),
                sinceDrop: now - record.drops[unit])
        }
        var state = ModelState(
            name: name, wish: wish, preference: choice.preference,
            priority: min(max(choice.priority, -1_000_000), 1_000_000),
            units: units,
            isFasterExpanded: (costs?.prefillRatio ?? 0) > 1 || (costs?.decodeRatio ?? 0) > 1,
            isActive: activeRequests > 0, idle: activeRequests > 0 ? 0 : now - record.lastActive)
        state.isParked = isParked
        return state
    }

    /// What the probe says of a unit, times how much it is used; without it, as if all bytes that are used gained the same.
    private func gain(of unit: Int) -> Double {
        let (layer, heat) = (model.layer(of: unit), model.heat(of: unit))
        let isExpert = unit >= model.layerCount
        guard let costs, costs.gains.count == model.layerCount else {
            // Of as many experts as there are, each has as many bytes.
            return heat * Double(record.unitBytes[unit] * (isExpert ? model.expertsOfLayer : 1))
        }
        return isExpert ? heat * (layer < costs.expertGains.count ? costs.expertGains[layer] : 0) : costs.gains[layer]
    }

    /// Whether the next step, of many rows or of few, is to run in memory_low although units are expanded.
    func bypasses(manyRows: Bool) -> Bool {
        guard wish == .auto, choice.preference == .speed, let costs else { return false }
        return (manyRows ? costs.prefillRatio : costs.decodeRatio) <= 1
    }

    func install(_ unit: ExpandedUnit) {
        model.install(unit)
        record.modeChanges += 1
    }

    /// - Parameter pressure: when it is pressure that takes it.
    func drop(_ unit: Int, pressure: Double?) {
        model.drop(unit)
        record.modeChanges += 1
        if let pressure { record.drops[unit] = pressure }
    }

    /// Gives back the buffers of steps that nobody has asked for lately.
    func releaseIdleScratch(now: Double) {
        guard record.holdsScratch, activeRequests == 0, now - record.lastActive >= HostedRecord.scratchPatience else {
            return
        }
        model.discardScratch()
        record.holdsScratch = false
    }

    /// What belongs to parking any model.
    func putAside() {
        model.discardScratch()
        model.file.pageOut()
        record.holdsScratch = false
        record.isParked = true
    }

    func takeUpAgain() { record.isParked = false }

    // MARK: Status

    /// What the status says of any model.
    var commonStatus: EbbModelStatus {
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
        status.experts = UInt32(model.expertCount)
        status.expandedExperts = UInt32(model.expandedExperts)
        status.mappedBytes = UInt64(model.mappedBytes)
        status.activeRequests = UInt32(activeRequests)
        status.queuedRequests = UInt32(waiting.count)
        status.contextTokens = UInt32(model.contextLimit)
        status.promptTokens = UInt64(record.promptTokens)
        status.generatedTokens = UInt64(record.generatedTokens)
        return status
    }

    var adapterRegions: [MemoryRegion] { [] }

    var regions: ModelRegions {
        ModelRegions(
            mapped: model.mappedRegions + adapterRegions, expanded: model.expandedRegions, kv: model.kvRegions,
            scratch: model.scratchRegions)
    }
}

extension ServiceError {
    /// What was computed from a file that is no longer what it was is nobody's answer.
    static func changedFile(_ model: String) -> ServiceError {
        ServiceError(.modelUnusable, "the file of \(model) was changed while it was in use; import the model again")
    }

    static func changedAdapter(of model: String) -> ServiceError {
        ServiceError(
            .modelUnusable, "the file of an adapter of \(model) was changed while it was in use", retryAfter: 100)
    }
}

extension EbbFile {
    /// Whether it is what it was when it was opened.
    var isIntact: Bool {
        let look = look()
        // One that was touched is rare, and nothing is final before its bytes have been compared.
        return look != .damaged && (look != .touched || recheck() != .damaged)
    }
}
