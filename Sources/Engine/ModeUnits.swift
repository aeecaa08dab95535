/// The matrices of a model by what has a mode of its own: its layers, numbered from 0, and after them the experts of the
/// first layer, of the second, and so on.
struct ModeUnits {
    let layers: Int
    /// Of each layer that has some.
    let expertsOfLayer: Int
    private let linears: [[LinearRef]]

    init(_ weights: WeightSet, layers: Int) {
        self.layers = layers
        let experts = weights.linears.filter { $0.expert != nil }
        let expertsOfLayer = (experts.lazy.compactMap(\.expert).max() ?? -1) + 1
        let mixtures = (experts.lazy.map(\.layer).max() ?? -1) + 1
        var linears = [[LinearRef]](repeating: [], count: layers + mixtures * expertsOfLayer)
        // Those of no layer, and the head of a decoder that only embeds, have no mode.
        for entry in weights.linears where (0..<layers).contains(entry.layer) {
            let unit = entry.expert.map { layers + entry.layer * expertsOfLayer + $0 } ?? entry.layer
            linears[unit].append(entry.ref)
        }
        (self.expertsOfLayer, self.linears) = (expertsOfLayer, linears)
    }

    var count: Int { linears.count }

    func linears(of unit: Int) -> [LinearRef] { linears[unit] }

    func experts(of layer: Int) -> Range<Int> {
        let first = layers + layer * expertsOfLayer
        return first < count ? first..<first + expertsOfLayer : 0..<0
    }

    func layer(of unit: Int) -> Int { unit < layers ? unit : (unit - layers) / expertsOfLayer }
}
