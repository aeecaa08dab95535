/// How scarce memory is, as the policy sees it. Bytes, and seconds of a clock that never jumps.
public struct Situation: Sendable, Equatable {
    public var level: PressureLevel
    /// Whether every source of the level could be read.
    public var isSure: Bool
    /// Seconds that the level has been nominal; 0 while it is not.
    public var calm: Double
    /// Seconds since it left nominal; 0 while it is nominal.
    public var strained: Double
    /// What the system, and the own control group, could give now, beside what is expanded already.
    public var available: Int
    /// What was expanded when the level left nominal.
    public var peak: Int
    /// Anonymous memory of Ebb's that is no expansion: KV caches, buffers, the program's own.
    public var otherBytes: Int

    public init(
        level: PressureLevel, isSure: Bool = true, calm: Double = 0, strained: Double = 0, available: Int = 0,
        peak: Int = 0,
        otherBytes: Int = 0
    ) {
        self.level = level
        self.isSure = isSure
        self.calm = calm
        self.strained = strained
        self.available = available
        self.peak = peak
        self.otherBytes = otherBytes
    }
}

/// What is to become of the models.
public struct Decision: Sendable, Equatable {
    /// For each model, in order, which units are to be expanded.
    public var expanded: [[Bool]]
    /// Those of them that are not yet, the most deserving first.
    public var growth: [Place]
    /// For each model: whether a unit gives way to one that is worth more.
    public var exchanges: [Bool]
    /// For each model: whether it is to be parked.
    public var parked: [Bool]
    /// Caches of conversations that may go on are dropped.
    public var dropsPrefixes = false
    /// KV caches of running sequences turn int8.
    public var compactsKV = false
    /// New models are not loaded.
    public var refusesLoads = false

    /// A unit of a model, both by number.
    public struct Place: Sendable, Equatable {
        public var model, unit: Int
    }
}

/// The wanted state of every unit (a layer, or an expert of one), as a function of values alone. DESIGN.md, section 5, has the order of giving up.
///
/// | level | caches of prefixes | expansions | KV cache | idle models | loads |
/// |---|---|---|---|---|---|
/// | nominal | kept | what fits budget and reserve | f16 | parked after `idleTime` | taken |
/// | warning | dropped | half at once, half of the rest each further `dwell` | int8, once no expansion is left | parked after `strainedIdleTime`, likewise | taken |
/// | critical | dropped | none | int8 | parked at once | refused |
///
/// Shrink fast: what has to go goes at once. Grow slow: only after `calmBeforeGrowth` seconds of nominal by the word of
/// every source (an unknown one stops growth, and takes nothing away), and only into memory that leaves the reserve and an eighth of it untouched. A unit that lost its expansion is not expanded again for two
/// dwell times: whatever the pressure does, a unit moves at most once a dwell time on average. Pins hold at every level
/// and are served before anything else.
///
/// What an expert gains follows from how often it is used, which changes. Where an expanded unit is worth less than half
/// of one of its model and size that is not, the two change places, one pair at a time.
public struct Policy: Sendable, Equatable {
    /// Bytes of anonymous memory that Ebb may take in all.
    public var budget: Int
    /// Bytes of available memory that stay with the system.
    public var reserve: Int
    /// Seconds of nominal before anything is expanded.
    public var calmBeforeGrowth: Double
    /// Seconds that a change of mind takes; see above.
    public var dwell: Double
    /// Seconds without a request after which a model is parked.
    public var idleTime: Double
    /// The same while the level is warning.
    public var strainedIdleTime: Double

    public init(
        budget: Int, reserve: Int, calmBeforeGrowth: Double = 10, dwell: Double = 5, idleTime: Double = 1800,
        strainedIdleTime: Double = 20
    ) {
        self.budget = budget
        self.reserve = reserve
        self.calmBeforeGrowth = calmBeforeGrowth
        self.dwell = dwell
        self.idleTime = idleTime
        self.strainedIdleTime = strainedIdleTime
    }

    public func decide(_ situation: Situation, _ models: [ModelState]) -> Decision {
        let candidates = candidates(models)
        let (expanded, exchanges) = expanded(situation, models, candidates)
        var decision = Decision(
            expanded: expanded, growth: [], exchanges: exchanges, parked: Array(repeating: false, count: models.count))
        let level = situation.level
        decision.dropsPrefixes = level > .nominal
        decision.refusesLoads = level == .critical
        let keepsExpansions = zip(models, decision.expanded).contains { $0.0.mayExpand && $0.1.contains(true) }
        decision.compactsKV = level == .critical || level == .warning && !keepsExpansions
        for (index, model) in models.enumerated() where !model.isActive && model.wish != .dequantized {
            let patience =
                level == .critical ? 0 : decision.compactsKV ? min(strainedIdleTime, idleTime) : idleTime
            guard model.idle >= patience else { continue }
            decision.parked[index] = true
            decision.expanded[index] = model.units.map { _ in false }
        }
        decision.growth = candidates.lazy
            .filter { !$0.isExpanded && decision.expanded[$0.model][$0.unit] }
            .map { Decision.Place(model: $0.model, unit: $0.unit) }
        return decision
    }

    // MARK: When to decide again

    /// What there is to decide on while no request runs, and when time alone changes it. What has been decided and not been
    /// done yet counts too: it may be that only room for it is missing.
    /// - Parameter now: monotonic seconds at which all that was.
    public func outlook(_ situation: Situation, _ models: [ModelState], now: Double) -> LookPlan.Outlook {
        var outlook = LookPlan.Outlook()
        var waits: [Double] = []
        for model in models {
            let canPark = !model.isParked && model.wish != .dequantized
            if canPark || model.keepsPrefixes { outlook.canGive = true }
            if canPark { waits.append(idleTime - model.idle) }
            let left = model.units.filter { !$0.isExpanded && $0.bytes > 0 }
            // One that has been idle for long gets nothing.
            let mayGrow = model.wish == .dequantized || model.mayExpand && model.idle < idleTime
            guard mayGrow, !left.isEmpty else { continue }
            outlook.canGrow = true
            guard situation.level == .nominal else { continue }
            waits += [calmBeforeGrowth - situation.calm] + left.map { 2 * dwell - $0.sinceDrop }
        }
        outlook.moment = waits.filter { $0 > 0 && $0 < .infinity }.min().map { now + $0 }
        return outlook
    }

    // MARK: Units

    private struct Candidate {
        let model: Int
        let unit: Int
        let bytes: Int
        let isExpanded: Bool
        /// Gain for a byte.
        let worth: Double
        let rests: Bool
    }

    private func expanded(
        _ situation: Situation, _ models: [ModelState], _ candidates: [Candidate]
    ) -> (wanted: [[Bool]], exchanges: [Bool]) {
        var exchanges = models.map { _ in false }
        var wanted = models.map { model in model.units.map { _ in model.wish == .dequantized } }
        let pinned = models.reduce(0) { $0 + ($1.wish == .dequantized ? $1.units.reduce(0) { $0 + $1.bytes } : 0) }
        let (room, roomToGrow) = room(situation, models)
        var used = pinned
        let free = candidates.filter { models[$0.model].mayExpand }
        for candidate in free where candidate.isExpanded && used + candidate.bytes <= room {
            wanted[candidate.model][candidate.unit] = true
            used += candidate.bytes
        }
        guard situation.level == .nominal, situation.isSure, situation.calm >= calmBeforeGrowth else {
            return (wanted, exchanges)
        }
        for candidate in free where !candidate.isExpanded && used + candidate.bytes <= roomToGrow {
            guard !candidate.rests else { continue }
            wanted[candidate.model][candidate.unit] = true
            used += candidate.bytes
        }
        for model in models.indices where models[model].mayExpand {
            exchanges[model] = exchange(model, free, &wanted)
        }
        return (wanted, exchanges)
    }

    /// How many times the worth of an expanded unit another must have to take its place.
    private static let worthOfExchange = 2.0

    /// Lets the most deserving unit of a model take the place of the least deserving one, once nothing else grows.
    /// - Returns: whether there were two such.
    private func exchange(_ model: Int, _ ranked: [Candidate], _ wanted: inout [[Bool]]) -> Bool {
        let units = ranked.filter { $0.model == model && $0.bytes > 0 }
        guard !units.contains(where: { !$0.isExpanded && wanted[model][$0.unit] }) else { return false }
        for low in units.reversed() where low.isExpanded && wanted[model][low.unit] {
            let better = units.first { !$0.isExpanded && !$0.rests && $0.bytes == low.bytes }
            guard let better, better.worth > Self.worthOfExchange * low.worth else { continue }
            wanted[model][low.unit] = false
            wanted[model][better.unit] = true
            return true
        }
        return false
    }

    /// Bytes that all expansions may take, and those that they may grow to.
    private func room(_ situation: Situation, _ models: [ModelState]) -> (keep: Int, grow: Int) {
        let budget = max(0, budget - situation.otherBytes)
        let inUse = models.reduce(0) { $0 + $1.expandedBytes }
        switch situation.level {
        case .nominal:
            let spare = inUse + situation.available - reserve
            return (min(budget, spare), min(budget, spare - reserve / 8))
        case .warning:
            let halvings = 1 + (dwell > 0 ? Int(min(60, situation.strained / dwell)) : 0)
            return (min(budget, situation.peak) >> halvings, 0)
        case .critical: return (0, 0)
        }
    }

    /// Units that may be expanded, the most deserving first: of pinned models, of active ones, of higher priority, of the
    /// greatest gain for a byte.
    private func candidates(_ models: [ModelState]) -> [Candidate] {
        var found: [(rank: (Int, Int, Double, Int, Int), candidate: Candidate)] = []
        for (index, model) in models.enumerated() where model.mayExpand || model.wish == .dequantized {
            let turn = model.wish == .dequantized ? 0 : model.isActive ? 1 : 2
            for (number, unit) in model.units.enumerated() {
                let worth = unit.gain / Double(max(unit.bytes, 1))
                let candidate = Candidate(
                    model: index, unit: number, bytes: unit.bytes, isExpanded: unit.isExpanded, worth: worth,
                    rests: unit.sinceDrop < 2 * dwell)
                found.append(((turn, -model.priority, -worth, index, number), candidate))
            }
        }
        return found.sorted { $0.rank < $1.rank }.map(\.candidate)
    }
}
