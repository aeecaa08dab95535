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

    /// Units that have changed their mode.
    /// - Parameter step: how many the model had run by then; nil for now.
    func tell(_ model: HostedModel, _ units: [Int], _ what: String, freed: Int, at step: Int? = nil, reason: String) {
        var event = event(.mode, model, what, reason)
        let layers = model.model.layerCount
        event.changedLayers = units.filter { $0 < layers }.map { UInt32(clamping: $0) }
        event.changedExperts = units.filter { $0 >= layers }.map { UInt32(clamping: $0 - layers) }
        event.freedBytes = Int64(freed)
        if let step { event.step = UInt64(clamping: step) }
        if view.level > .nominal, what == "dropped", let woken = view.wokenAt {
            event.reactionUs = UInt64(max(0, (MonotonicClock.now() - woken) * 1e6))
        }
        // Hundreds of experts follow their use: nothing for the journal of every day.
        hub.publish(event, level: event.changedLayers.isEmpty && view.level == .nominal ? .debug : .info)
    }

    /// Why units went.
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
        event.expandedExperts = UInt32(clamping: model.model.expandedExperts)
        event.experts = UInt32(clamping: model.model.expertCount)
        event.step = UInt64(model.steps)
        return event
    }
}
