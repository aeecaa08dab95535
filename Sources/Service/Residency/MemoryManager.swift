import EbbProtocol
import Engine
import Governor

/// Owns the loaded models as far as memory goes, and carries out what the policy decides: drops at once, grows and
/// compacts in pieces between steps. Keeps the ledger's room right. Used by the engine thread alone.
final class MemoryManager {
    private(set) var models: [HostedModel] = []
    private(set) var policy: Policy
    let ledger: Ledger
    /// While it is set, no expansion starts or goes on: the daemon is about to end.
    var isDraining = false

    private var events: ResidencyEvents
    private let news: PressureInbox
    /// Where parked conversations go; nil: they are dropped.
    private let parkingFolder: String?
    private let availableBytes: @Sendable () -> Int

    private var books = MemoryBooks()
    /// When the books were measured, since the kernel walks all pages for it; and what its counters said then.
    private var measuredAt = -Double.infinity
    private var anonymousThen = 0
    private var last: GovernorNews
    /// Bytes that were expanded when ``last`` came: its figures are of that moment.
    private var expandedThen = 0
    /// Bytes that were expanded when the level left nominal.
    private var peak = 0
    /// What is to be expanded, in this order.
    private var wanted: [(model: HostedModel, unit: Int)] = []
    private var growth: Growth?
    /// Experts whose expansion has not been told yet: there are hundreds of them.
    private var untold: Untold?
    private struct Untold {
        let model: HostedModel
        var units: [Int] = []
        var bytes = 0
        let since = MonotonicClock.now()
        let reason: String
        /// The steps that the model had run: what an event says of it must hold for all of its units.
        let step: Int
    }
    private var compaction: KVCompaction?

    /// Share of a step's time that expansions may take after it.
    private static let growthShare = 0.06
    /// Seconds that they take at a time when nobody waits for a token.
    private static let idleSlice = 0.002
    /// Seconds between two measurements.
    private static let measuringInterval = 1.0
    /// Bytes by which the process must have changed while nobody asked for anything, to be measured anew.
    private static let worthwhile = 1 << 20

    init(
        policy: Policy, events: EventHub, news: PressureInbox, ledger: Ledger, parkingFolder: String?,
        availableBytes: @escaping @Sendable () -> Int
    ) {
        self.policy = policy
        self.events = ResidencyEvents(hub: events)
        self.news = news
        self.ledger = ledger
        self.parkingFolder = parkingFolder
        self.availableBytes = availableBytes
        last = GovernorNews(view: PressureView(), available: availableBytes(), now: MonotonicClock.now())
        measure()
    }

    var level: PressureLevel { last.view.level }

    // MARK: Models

    func add(_ model: HostedModel, _ reason: String) {
        models.append(model)
        events.tell(.residency, model, "loaded", reason)
        // What there was before the load says nothing of now.
        look()
        measure()
        govern()
    }

    func remove(_ model: HostedModel, _ reason: String) {
        models.removeAll { $0 === model }
        if growth?.model === model { growth = nil }
        wanted.removeAll { $0.model === model }
        if untold?.model === model { untold = nil }
        compaction?.forget(model)
        events.tell(.residency, model, "unloaded", reason)
        balance()
    }

    /// Takes a parked model up again.
    func wake(_ model: HostedModel, _ reason: String) {
        guard model.isParked else { return }
        model.wake()
        events.tell(.residency, model, "woken", reason)
    }

    func tell(_ kind: EbbEvent.Kind, _ model: HostedModel, _ what: String, _ reason: String) {
        events.tell(kind, model, what, reason)
    }

    func setPolicy(_ policy: Policy) {
        self.policy = policy
        reconsider()
    }

    // MARK: Books

    private var expandedBytes: Int { models.reduce(0) { $0 + $1.model.expandedBytes } }

    /// Asks the kernel what the process takes.
    private func measure() {
        guard let memory = ProcessMemory.now() else { return balance() }
        var now = MemoryBooks.Measured()
        now.anonymous = memory.anonymous
        now.expanded = expandedBytes
        now.kv = models.reduce(0) { $0 + $1.model.kvBytes }
        for model in models {
            now.scratch += MemoryRegion.residentBytes(model.model.scratchRegions) ?? 0
            if !model.isParked { now.scratchLimit += model.model.scratchBytes }
        }
        now.promised = promised { $0 != .kv && $0 != .prefixes }
        books.measure(now)
        measuredAt = last.now
        anonymousThen = ProcessMemory.estimate()?.anonymous ?? 0
        balance()
    }

    /// Whether a look is worth a measurement: while nothing runs, the counters tell whether anything has changed.
    private func isWorthMeasuring(_ news: GovernorNews) -> Bool {
        guard news.now - measuredAt >= Self.measuringInterval else { return false }
        guard news.view.isQuiet, let memory = ProcessMemory.estimate() else { return true }
        return abs(memory.anonymous - anonymousThen) > Self.worthwhile
    }

    private func promised(_ counts: (Ledger.Kind) -> Bool) -> Int {
        ledger.entries.reduce(0) { $0 + (counts($1.kind) ? $1.bytes : 0) }
    }

    private var standing: MemoryBooks.Standing {
        var now = MemoryBooks.Standing()
        now.budget = policy.budget
        now.reserve = policy.reserve / 2
        now.available = last.available - (expandedBytes - expandedThen)
        now.pinned = models.reduce(0) { $0 + ($1.wish == .dequantized ? $1.model.expandedBytes : 0) }
        now.yielding = expandedBytes - now.pinned
        now.kv = models.reduce(0) { $0 + $1.model.kvBytes }
        now.kvPromised = promised { $0 == .kv || $0 == .prefixes }
        now.mapped = models.reduce(0) { $0 + ($1.isParked ? 0 : $1.model.mappedBytes) }
        return now
    }

    /// Asks what there is to be had.
    private func look() {
        last.available = availableBytes()
        expandedThen = expandedBytes
    }

    /// Tells the ledger what may be promised from now on.
    private func balance() { ledger.setRoom(books.room(standing)) }

    /// Promises memory of the engine thread's. Expansions that stand in its way go at once.
    /// - Returns: nil where there is no room for it, whatever gives way.
    func promise(_ kind: Ledger.Kind, _ bytes: Int) -> Ledger.Reservation? {
        look()
        balance()
        guard let reservation = ledger.reserve(kind, bytes) else { return nil }
        if expandedBytes > 0 { dropUnits(decide()) }
        return reservation
    }

    /// What taking some memory would meet.
    func admission() -> Admission {
        let (standing, promised) = (standing, promised { $0 != .expanding })
        return Admission(
            available: availableBytes() - books.outstanding(promised: promised, standing),
            reclaimable: standing.yielding,
            inUse: books.other + standing.kvBeyond + promised + expandedBytes, policy: policy, level: level,
            reason: last.view.reason)
    }

    // MARK: Deciding

    private func decide() -> Decision {
        if level == .nominal { peak = expandedBytes }
        let now = MonotonicClock.now()
        return policy.decide(situation, models.map { $0.state(now: now) })
    }

    private var situation: Situation {
        let (standing, promised) = (standing, promised { $0 != .expanding })
        return Situation(
            level: level, isSure: last.view.isSure, calm: last.view.calm, strained: last.view.strained,
            available: standing.available - standing.mapped - books.outstanding(promised: promised, standing),
            peak: peak, otherBytes: books.other + standing.kvBeyond + promised)
    }

    /// What the monitor should look for while no request runs: by the time of the last look, so that what is due since is
    /// still to come.
    var outlook: LookPlan.Outlook {
        guard !models.isEmpty else { return LookPlan.Outlook() }
        let states = models.map { model in
            var state = model.state(now: last.now)
            // Not a part of the state: what is decided on may be memory for a prefix that is being kept.
            state.keepsPrefixes = model.prefixBytes > 0
            return state
        }
        var outlook = policy.outlook(situation, states, now: last.now)
        outlook.isMoving = growth != nil
        return outlook
    }

    // MARK: Doing

    /// The governor's word, between two steps.
    func govern(_ news: GovernorNews) {
        hear(news)
        if isWorthMeasuring(news) { measure() }
        govern()
    }

    /// The same where something else has changed than the level. What was seen at the last look says nothing of now.
    func reconsider() {
        look()
        govern()
    }

    /// The same between two layers, where the level has risen: only what is safe there.
    func governWithinStep() {
        guard let news = news.takeIfWorse(than: level) else { return }
        hear(news)
        dropUnits(decide())
    }

    private func hear(_ news: GovernorNews) {
        events.level(news.view)
        last = news
        expandedThen = expandedBytes
    }

    /// Decides anew. Drops what is to go, now; what is to come follows in ``work(stepSeconds:)``.
    private func govern() {
        let decision = decide()
        dropUnits(decision)
        if !decision.compactsKV { compaction = nil } else if compaction == nil { compaction = KVCompaction() }
        for (index, model) in models.enumerated() {
            model.releaseIdleScratch(now: last.now)
            if decision.dropsPrefixes { dropPrefixes(model) }
            if decision.parked[index], !model.isParked { park(model) }
            // Growing again, it is no longer aside.
            if model.isParked, decision.expanded[index].contains(true) { wake(model, "there is room again") }
        }
        balance()
    }

    private func dropUnits(_ decision: Decision) {
        wanted = decision.growth.map { (models[$0.model], $0.unit) }
        for (index, model) in models.enumerated() {
            let units = decision.expanded[index]
            if let growth, growth.model === model, !units[growth.unit] { self.growth = nil }
            let leaving = units.indices.filter { !units[$0] && model.model.isExpanded($0) }
            guard !leaving.isEmpty else { continue }
            tellGrowth()
            let before = model.model.expandedBytes
            let isPressed = model.wish == .auto && model.choice.preference != .memory
            for unit in leaving { model.drop(unit, pressure: isPressed ? MonotonicClock.now() : nil) }
            events.tell(
                model, leaving, "dropped", freed: before - model.model.expandedBytes,
                reason: decision.exchanges[index]
                    ? "another is worth more" : events.whyDropped(model, isParked: decision.parked[index]))
        }
    }

    private func dropPrefixes(_ model: HostedModel) {
        let freed = model.dropPrefixes()
        if freed > 0 { events.tell(.residency, model, "prefix_dropped", last.view.reason, freed: freed) }
    }

    private func park(_ model: HostedModel) {
        let lost = model.park(in: level == .nominal ? parkingFolder : nil)
        let why = level == .nominal ? "idle" : last.view.reason
        events.tell(
            .residency, model, "parked", [why, lost].compactMap { $0 }.joined(separator: "; "),
            level: lost == nil ? .info : .warning)
    }

    /// Grows and compacts a little.
    /// - Parameter stepSeconds: what the last step took; nil where nobody waits.
    /// - Returns: whether there was something to do, and nobody waits for a token.
    func work(stepSeconds: Double?) -> Bool {
        for done in compaction?.advance(models) ?? [] {
            events.tell(.residency, done.model, "kv_int8", "\(done.blocks) blocks; " + last.view.reason)
        }
        guard !isDraining, level == .nominal || models.contains(where: { $0.wish == .dequantized }) else {
            growth = nil
            return false
        }
        let end = MonotonicClock.now() + (stepSeconds.map { $0 * Self.growthShare } ?? Self.idleSlice)
        var worked = false
        repeat {
            guard grow() else { break }
            worked = true
        } while MonotonicClock.now() < end
        return worked
    }

    /// One piece of an expansion. False where none is wanted.
    private func grow() -> Bool {
        if growth == nil { growth = nextGrowth() }
        guard let growth else {
            tellGrowth()
            return false
        }
        guard let bytes = growth.advance() else { return true }
        self.growth = nil
        let model = growth.model
        if let untold, untold.model !== model || untold.step != model.steps { tellGrowth() }
        let reason = model.wish == .dequantized ? "pinned" : "room, and calm for \(Int(last.view.calm)) s"
        var told = untold ?? Untold(model: model, reason: reason, step: model.steps)
        told.units.append(growth.unit)
        told.bytes += bytes
        untold = told
        let isLayer = growth.unit < model.model.layerCount
        if isLayer || MonotonicClock.now() - told.since >= Self.growthTold { tellGrowth() }
        return true
    }

    /// Seconds after which experts that have been expanded are told together.
    private static let growthTold = 1.0

    private func tellGrowth() {
        guard let told = untold else { return }
        untold = nil
        events.tell(told.model, told.units, "expanded", freed: -told.bytes, at: told.step, reason: told.reason)
    }

    private func nextGrowth() -> Growth? {
        guard let next = wanted.first(where: { !$0.model.model.isExpanded($0.unit) }) else { return nil }
        return Growth(next.model, unit: next.unit, ledger)
    }
}
