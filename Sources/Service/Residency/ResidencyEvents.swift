import EbbProtocol
import Governor
import Logging

/// Tells subscribers and the journal what becomes of models' memory, and why.
struct ResidencyEvents {
    let hub: EventHub
    /// What the governor last said.
    var view = PressureView()

    mutating func level(_ new: PressureView) {
        if new.level != view.level { hub.publish(EbbEvent(new)) }
        view = new
    }

    func tell(
        _ kind: EbbEvent.Kind, _ model: HostedModel, _ what: String, _ reason: String, freed: Int = 0,
        level: Logger.Level = .info
    ) {
        var event = event(kind, model, what, reason)
        event.freedBytes = Int64(freed)
        hub.publish(event, level: level)
    }

    /// Layers that have changed their mode.
    func tell(_ model: HostedModel, _ layers: [Int], _ what: String, freed: Int, reason: String) {
        var event = event(.mode, model, what, reason)
        event.changedLayers = layers.map { UInt32(clamping: $0) }
        event.freedBytes = Int64(freed)
        if view.level > .nominal, what == "dropped", let woken = view.wokenAt {
            event.reactionUs = UInt64(max(0, (MonotonicClock.now() - woken) * 1e6))
        }
        hub.publish(event)
    }

    /// Why layers went.
    func whyDropped(_ model: HostedModel, isParked: Bool) -> String {
        let isCalm = view.level == .nominal
        switch (model.wish, model.choice.preference) {
        case _ where isCalm && isParked: return "idle"
        case (.memoryLow, _): return "pinned"
        case (.auto, .memory): return "preference memory"
        case (.auto, .speed) where isCalm: return "preference speed"
        default: return isCalm ? "beyond the budget, or into the reserve" : view.reason
        }
    }

    private func event(_ kind: EbbEvent.Kind, _ model: HostedModel, _ what: String, _ reason: String) -> EbbEvent {
        var event = EbbEvent()
        event.kind = kind
        event.model = model.name
        event.what = what
        event.reason = reason
        event.level = EbbLevel(rawValue: view.level.rawValue) ?? .nominal
        event.expandedLayers = UInt32(clamping: model.model.expandedLayers)
        event.layers = UInt32(clamping: model.model.layerCount)
        event.step = UInt64(model.steps)
        return event
    }
}
