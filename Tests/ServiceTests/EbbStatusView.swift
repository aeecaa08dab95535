import EbbProtocol

/// What tests look at in a status.
struct EbbStatusView {
    let expanded: Int
    let layers: Int
    let active: Int
    let kvBytes: Int
    let level: EbbLevel

    init(_ status: EbbStatus) {
        expanded = status.models.reduce(0) { $0 + Int($1.expandedLayers) }
        layers = status.models.reduce(0) { $0 + Int($1.layers) }
        active = Int(status.activeRequests)
        level = status.level
        kvBytes = status.models.reduce(0) { $0 + Int($1.kvBytes) }
    }
}
