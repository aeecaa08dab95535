import EbbProtocol
import Engine
import Governor

/// Carries out what the policy decides: drops at once, grows and compacts in pieces between steps. Used by the engine
/// thread alone.
final class Residency {
    private(set) var policy: Policy
    private let events: EventHub
    private let news: PressureInbox
    /// Where parked conversations go; nil: they are dropped.
    private let parkingFolder: String?
    private let availableBytes: @Sendable () -> Int
    /// Bytes that were expanded when ``last`` came: its figures are of that moment.
    private var expandedThen = 0
    /// Anonymous bytes of the process without expansions, asked of the kernel once a second: it walks all pages for it.
    private var other = (bytes: 0, at: -Double.infinity)
    private var last = GovernorNews(view: PressureView(), available: 0, now: MonotonicClock.now())
    /// Bytes that were expanded when the level left nominal.
    private var peak = 0
    private var growth: (model: HostedModel, work: LayerExpansion)?
    private var wanted: [ObjectIdentifier: [Bool]] = [:]
    private var compacts = false
    /// Blocks that have turned int8 since the last event, by model.
    private var compacted: [ObjectIdentifier: Int] = [:]

    /// Share of a step's time that expansions may take after it.
    private static let growthShare = 0.06
    /// Seconds that they take at a time when nobody waits for a token.
    private static let idleSlice = 0.002
    /// Blocks of the KV cache that turn int8 after a step: some tenths of a millisecond.
    private static let compactedBlocks = 16

    init(
        policy: Policy, events: EventHub, news: PressureInbox, parkingFolder: String?,
        availableBytes: @escaping @Sendable () -> Int
    ) {
        self.policy = policy
        self.events = events
        self.news = news
        self.parkingFolder = parkingFolder
        self.availableBytes = availableBytes
    }

    var level: PressureLevel { last.view.level }

    func setPolicy(_ policy: Policy, _ models: [HostedModel]) {
        self.policy = policy
        govern(models)
    }

    func urgentNews() -> GovernorNews? { news.takeIfWorse(than: level) }

    func take(_ news: GovernorNews, _ models: [HostedModel]) {
        if news.view.level != level { events.publish(EbbEvent(news.view)) }
        last = news
        expandedThen = Self.expandedBytes(models)
        if news.now - other.at >= 1, let memory = ProcessMemory.now() {
            other = (max(0, memory.anonymous - expandedThen), news.now)
        }
    }

    func forget(_ model: HostedModel) {
        if growth?.model === model { growth = nil }
        wanted[ObjectIdentifier(model)] = nil
        compacted[ObjectIdentifier(model)] = nil
    }

    private static func expandedBytes(_ models: [HostedModel]) -> Int {
        models.reduce(0) { $0 + $1.model.expandedBytes }
    }

    // MARK: Deciding

    private func situation(_ models: [HostedModel]) -> Situation {
        let expanded = Self.expandedBytes(models)
        // Mapped weights count as available to the system, and must stay in RAM all the same.
        let mapped = models.reduce(0) { $0 + ($1.isParked ? 0 : $1.model.mappedBytes) }
        if level == .nominal { peak = expanded }
        return Situation(
            level: level, calm: last.view.calm, strained: last.view.strained,
            available: last.available - (expanded - expandedThen) - mapped, peak: peak,
            otherBytes: other.bytes)
    }

    private func decide(_ models: [HostedModel]) -> Decision {
        let now = MonotonicClock.now()
        return policy.decide(situation(models), models.map { $0.state(now: now) })
    }

    /// What taking some memory would meet.
    func admission(_ models: [HostedModel]) -> Admission {
        let reclaimable = models.reduce(0) { $0 + ($1.wish == .dequantized ? 0 : $1.model.expandedBytes) }
        return Admission(
            available: availableBytes(), reclaimable: reclaimable,
            inUse: other.bytes + Self.expandedBytes(models), policy: policy, level: level)
    }

    // MARK: Doing

    /// Drops what is to go, now; what is to come follows in ``work(_:stepSeconds:)``.
    func govern(_ models: [HostedModel]) {
        let decision = decide(models)
        dropLayers(models, decision)
        compacts = decision.compactsKV
        for (index, model) in models.enumerated() {
            model.releaseIdleScratch(now: last.now)
            if decision.dropsPrefixes { dropPrefixes(model) }
            if decision.parked[index], !model.isParked { park(model) }
            // Growing again, it is no longer aside.
            if model.isParked, decision.expanded[index].contains(true) { wake(model, "there is room again") }
        }
    }

    /// Drops layers alone: what is safe in the middle of a step.
    func shrink(_ models: [HostedModel]) { dropLayers(models, decide(models)) }

    private func dropLayers(_ models: [HostedModel], _ decision: Decision) {
        for (index, model) in models.enumerated() {
            let layers = decision.expanded[index]
            wanted[ObjectIdentifier(model)] = layers
            let leaving = layers.indices.filter { !layers[$0] && model.model.isExpanded($0) }
            if let growing = growth, growing.model === model, !layers[growing.work.layer] { growth = nil }
            guard !leaving.isEmpty else { continue }
            let before = model.model.expandedBytes
            let pressed = model.wish == .auto && model.choice.preference != .memory
            for layer in leaving { model.drop(layer, pressure: pressed ? MonotonicClock.now() : nil) }
            let reason = level == .nominal && decision.parked[index] ? "idle" : whyDropped(model)
            tellMode(model, leaving, "dropped", freed: before - model.model.expandedBytes, reason: reason)
        }
    }

    private func dropPrefixes(_ model: HostedModel) {
        let freed = model.dropPrefixes()
        if freed > 0 { tell(.residency, model, "prefix_dropped", last.view.reason, freed: freed) }
    }

    private func park(_ model: HostedModel) {
        let lost = model.park(in: level == .nominal ? parkingFolder : nil)
        let why = level == .nominal ? "idle" : last.view.reason
        tell(.residency, model, "parked", [why, lost].compactMap { $0 }.joined(separator: "; "))
    }

    /// Takes a parked model up again.
    func wake(_ model: HostedModel, _ reason: String) {
        guard model.isParked else { return }
        model.wake()
        tell(.residency, model, "woken", reason)
    }

    /// Grows and compacts a little.
    /// - Parameter stepSeconds: what the last step took; nil where nobody waits.
    /// - Returns: whether there was something to do, and nobody waits for a token.
    func work(_ models: [HostedModel], stepSeconds: Double?) -> Bool {
        if compacts { compact(models) }
        guard level == .nominal || models.contains(where: { $0.wish == .dequantized }) else {
            growth = nil
            return false
        }
        let end = MonotonicClock.now() + (stepSeconds.map { $0 * Self.growthShare } ?? Self.idleSlice)
        var worked = false
        repeat {
            guard advanceGrowth(models) else { break }
            worked = true
        } while MonotonicClock.now() < end
        return worked
    }

    private func compact(_ models: [HostedModel]) {
        for model in models {
            let turned = model.compactKV(blocks: Self.compactedBlocks)
            compacted[ObjectIdentifier(model), default: 0] += turned
            // One event for a model, when the work is done.
            guard turned < Self.compactedBlocks, let blocks = compacted.removeValue(forKey: ObjectIdentifier(model)),
                blocks > 0
            else { continue }
            tell(.residency, model, "kv_int8", "\(blocks) blocks; " + last.view.reason)
        }
    }

    /// One piece of an expansion. False where none is wanted.
    private func advanceGrowth(_ models: [HostedModel]) -> Bool {
        if growth == nil { growth = nextGrowth(models) }
        guard let (model, work) = growth else { return false }
        if let layer = work.advance(model.model.pool) {
            growth = nil
            model.install(layer)
            let reason = model.wish == .dequantized ? "pinned" : "room, and calm for \(Int(last.view.calm)) s"
            tellMode(model, [layer.layer], "expanded", freed: -layer.byteCount, reason: reason)
        }
        return true
    }

    private func nextGrowth(_ models: [HostedModel]) -> (HostedModel, LayerExpansion)? {
        for model in models {
            guard let layers = wanted[ObjectIdentifier(model)] else { continue }
            // Where memory is refused, the next tick of the governor tries again.
            for layer in layers.indices where layers[layer] && !model.model.isExpanded(layer) {
                return (try? model.model.expansion(of: layer)).map { (model, $0) }
            }
        }
        return nil
    }

    // MARK: Telling

    private func tellMode(
        _ model: HostedModel, _ layers: [Int], _ what: String, freed: Int, reason: String
    ) {
        var event = event(.mode, model, what, reason)
        event.changedLayers = layers.map { UInt32($0) }
        event.freedBytes = Int64(freed)
        if level > .nominal, what == "dropped", let woken = last.view.wokenAt {
            event.reactionUs = UInt64(max(0, (MonotonicClock.now() - woken) * 1e6))
        }
        events.publish(event)
    }

    private func whyDropped(_ model: HostedModel) -> String {
        switch (model.wish, model.choice.preference) {
        case (.memoryLow, _): "pinned"
        case (.auto, .memory): "preference memory"
        case (.auto, .speed) where level == .nominal: "preference speed"
        default: level == .nominal ? "beyond the budget, or into the reserve" : last.view.reason
        }
    }

    func tell(_ kind: EbbEvent.Kind, _ model: HostedModel, _ what: String, _ reason: String, freed: Int = 0) {
        var event = event(kind, model, what, reason)
        event.freedBytes = Int64(freed)
        events.publish(event)
    }

    private func event(_ kind: EbbEvent.Kind, _ model: HostedModel, _ what: String, _ reason: String) -> EbbEvent {
        var event = EbbEvent()
        event.kind = kind
        event.model = model.name
        event.what = what
        event.reason = reason
        event.level = EbbLevel(rawValue: level.rawValue) ?? .nominal
        event.expandedLayers = UInt32(model.model.expandedLayers)
        event.layers = UInt32(model.model.layerCount)
        event.step = UInt64(model.steps)
        return event
    }
}
