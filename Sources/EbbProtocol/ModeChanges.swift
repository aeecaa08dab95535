/// What tells how much of a model is expanded.
public protocol ModeStanding {
    var layers: UInt32 { get }
    var expandedLayers: UInt32 { get }
    var experts: UInt32 { get }
    var expandedExperts: UInt32 { get }
}

extension EbbEvent: ModeStanding {}
extension EbbModelStatus: ModeStanding {}

extension ModeStanding {
    /// How many are expanded, as `3 of 17 layers, 40 of 1024 experts`.
    public var standing: String {
        "\(expandedLayers) of \(layers) layers" + (experts > 0 ? ", \(expandedExperts) of \(experts) experts" : "")
    }
}

extension EbbEvent {
    /// Of a change of modes: how many layers and experts have changed, as `2 layers, 14 experts`.
    public var changes: String {
        let counts = [(changedLayers.count, "layer"), (changedExperts.count, "expert")]
        return counts.filter { $0.0 > 0 }.map { "\($0.0) \($0.1)\($0.0 == 1 ? "" : "s")" }.joined(separator: ", ")
    }
}

extension EbbModelStatus {
    /// Whether all layers and experts are expanded, or none.
    public func isWholly(expanded: Bool) -> Bool {
        expanded
            ? expandedLayers == layers && expandedExperts == experts : expandedLayers == 0 && expandedExperts == 0
    }
}
