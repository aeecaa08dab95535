/// What the policy knows of a model.
public struct ModelState: Sendable, Equatable {
    /// The operator's wish.
    public enum Wish: Sendable { case auto, dequantized, memoryLow }

    public var name: String
    public var wish: Wish
    /// Bytes that each layer's expansion takes.
    public var layerBytes: [Int]
    /// Which layers are expanded now.
    public var expanded: [Bool]
    /// Whether requests are running.
    public var active: Bool

    public init(name: String, wish: Wish, layerBytes: [Int], expanded: [Bool], active: Bool) {
        self.name = name
        self.wish = wish
        self.layerBytes = layerBytes
        self.expanded = expanded
        self.active = active
    }
}

/// The wanted state of every layer, as a function of values alone.
///
/// Shrink fast: at warning half of the expanded bytes go at once, at critical all of them. Grow slow: only at nominal,
/// after `calmBeforeGrowth` seconds of it, and only into memory that leaves the reserve untouched. Pinned models are
/// served first and never changed against the operator's word.
public struct Policy: Sendable {
    /// Bytes that all expansions may take together.
    public var budget: Int
    /// Bytes of available memory that stay with the system.
    public var reserve: Int
    /// Seconds at nominal before layers are expanded.
    public var calmBeforeGrowth: Double

    public init(budget: Int, reserve: Int, calmBeforeGrowth: Double = 10) {
        self.budget = budget
        self.reserve = reserve
        self.calmBeforeGrowth = calmBeforeGrowth
    }

    /// - Parameters:
    ///   - calm: seconds that the level has been nominal.
    ///   - peak: bytes that were expanded when the level left nominal; read at warning only.
    ///   - available: bytes that the system could give now, beside what is expanded already.
    /// - Returns: for each model, in order, which layers are to be expanded.
    public func wanted(
        level: PressureLevel, calm: Double, peak: Int, available: Int, models: [ModelState]
    ) -> [[Bool]] {
        let inUse = models.reduce(0) { $0 + Self.bytes($1, $1.expanded) }
        let growth = level == .nominal && calm >= calmBeforeGrowth
        // What expansions may take in all: the budget, within what is there now or can be had above the reserve.
        var room: Int
        switch level {
        case .nominal: room = min(budget, inUse + max(0, available - reserve))
        case .warning: room = min(budget, peak) / 2
        case .critical: room = 0
        }
        var wanted = models.map { $0.layerBytes.map { _ in false } }
        for index in models.indices where models[index].wish == .dequantized {
            wanted[index] = models[index].layerBytes.map { _ in true }
            room -= models[index].layerBytes.reduce(0, +)
        }
        let order = models.indices.filter { models[$0].wish == .auto }.sorted {
            (models[$0].active ? 0 : 1, $0) < (models[$1].active ? 0 : 1, $1)
        }
        // First what is expanded already, so that room for growth never moves a layer that could stay.
        for keeping in [true, false] where keeping || growth {
            for index in order {
                for layer in models[index].layerBytes.indices where models[index].expanded[layer] == keeping {
                    let bytes = models[index].layerBytes[layer]
                    guard bytes <= room else { continue }
                    room -= bytes
                    wanted[index][layer] = true
                }
            }
        }
        return wanted
    }

    private static func bytes(_ model: ModelState, _ layers: [Bool]) -> Int {
        zip(model.layerBytes, layers).reduce(0) { $0 + ($1.1 ? $1.0 : 0) }
    }
}
