/// How often the experts of each layer were used lately: what makes one of them hotter than another.
///
/// Used by the engine thread alone.
final class ExpertUse {
    private let config: ExpertConfig
    /// Rows that went to each expert, [layers][experts], and to all of a layer, [layers].
    private var counts: [Int]
    private var totals: [Int]

    /// A layer's counts are halved once it has seen so many rows since: the last of them say most.
    private static let rowsRemembered = 2048

    init(_ config: ExpertConfig, layers: Int) {
        self.config = config
        counts = Array(repeating: 0, count: layers * config.count)
        totals = Array(repeating: 0, count: layers)
    }

    func add(_ rows: Int, to expert: Int, of layer: Int) {
        counts[layer * config.count + expert] += rows
        totals[layer] += rows
    }

    /// Lets go of half of what a layer has seen, where that is much.
    func forget(of layer: Int) {
        guard totals[layer] >= Self.rowsRemembered * config.used else { return }
        totals[layer] = 0
        for index in layer * config.count..<(layer + 1) * config.count {
            counts[index] /= 2
            totals[layer] += counts[index]
        }
    }

    /// An expert's share of its layer's rows, [0, 1]; at first that of all.
    /// - Parameter index: of [layers][experts].
    func share(_ index: Int) -> Double {
        // As if each had been used once.
        Double(counts[index] + 1) / Double(totals[index / config.count] + config.count)
    }
}
