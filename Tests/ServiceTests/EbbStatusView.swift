import EbbProtocol

/// What tests look at in a status.
struct EbbStatusView {
    let expanded: Int
    let layers: Int
    /// Of all models with experts.
    let expandedExperts, experts: Int
    let active: Int
    let kvBytes: Int
    let level: EbbLevel

    init(_ status: EbbStatus) {
        expanded = status.models.reduce(0) { $0 + Int($1.expandedLayers) }
        layers = status.models.reduce(0) { $0 + Int($1.layers) }
        expandedExperts = status.models.reduce(0) { $0 + Int($1.expandedExperts) }
        experts = status.models.reduce(0) { $0 + Int($1.experts) }
        active = Int(status.activeRequests)
        level = status.level
        kvBytes = status.models.reduce(0) { $0 + Int($1.kvBytes) }
    }
}
