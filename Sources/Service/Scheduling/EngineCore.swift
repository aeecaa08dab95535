import Dispatch
import Engine
import Governor

/// What the engine thread owns: the loaded models, and which of their layers are expanded.
final class EngineCore {
    private(set) var models: [HostedModel] = []
    private let kernels: Kernels
    private let thread: EngineThread
    private let expander = DispatchQueue(label: "ebb.expander", qos: .utility)
    private var policy: Policy
    private(set) var level: PressureLevel = .nominal
    private var calm = 0.0
    private var available = 0
    /// Bytes that were expanded when the level left nominal.
    private var peak = 0

    init(kernels: Kernels, thread: EngineThread, policy: Policy) {
        self.kernels = kernels
        self.thread = thread
        self.policy = policy
    }

    func model(_ name: String) -> HostedModel? { models.first { $0.name == name } }

    func add(_ model: HostedModel) {
        models.append(model)
        govern()
    }

    func remove(_ name: String) throws {
        guard let model = model(name) else { throw ServiceError(.unknownModel, "\(name) is not loaded") }
        model.failAll(ServiceError(.modelUnusable, "\(name) was unloaded"))
        models.removeAll { $0 === model }
    }

    var activeRequests: Int { models.reduce(0) { $0 + $1.activeRequests } }

    /// One step of every model that has work. False if none had.
    func turn() -> Bool {
        var worked = false
        for model in models where model.step() { worked = true }
        return worked
    }

    func failAll(_ error: ServiceError) {
        for model in models { model.failAll(error) }
    }

    // MARK: Residency

    /// Takes the governor's view and moves layers towards what the policy wants.
    func govern(level: PressureLevel, calm: Double, available: Int) {
        if self.level == .nominal, level > .nominal { peak = models.reduce(0) { $0 + $1.model.expandedBytes } }
        (self.level, self.calm, self.available) = (level, calm, available)
        govern()
    }

    func setPolicy(_ policy: Policy) {
        self.policy = policy
        govern()
    }

    func setWish(_ wish: ModelState.Wish, of name: String) throws {
        guard let model = model(name) else { throw ServiceError(.unknownModel, "\(name) is not loaded") }
        model.wish = wish
        govern()
    }

    private func wanted() -> [[Bool]] {
        policy.wanted(level: level, calm: calm, peak: peak, available: available, models: models.map(\.state))
    }

    /// Drops what is to go now; what is to be expanded follows in the background, a layer at a time.
    private func govern() {
        let wanted = wanted()
        for (model, layers) in zip(models, wanted) {
            for (layer, expand) in layers.enumerated() where !expand && model.model.isExpanded(layer) {
                model.drop(layer)
            }
        }
        guard !models.contains(where: { !$0.expanding.isEmpty }) else { return }
        for (model, layers) in zip(models, wanted) {
            if let layer = layers.indices.first(where: { layers[$0] && !model.model.isExpanded($0) }) {
                return expand(layer, of: model)
            }
        }
    }

    private func expand(_ layer: Int, of model: HostedModel) {
        let plan = model.model.expansion(of: layer)
        let (name, kernels, thread) = (model.name, kernels, thread)
        let pinned = model.wish == .dequantized
        model.expanding.insert(layer)
        expander.async {
            let result = Result { try plan.run(kernels, while: { pinned || !thread.expansionIsUnwanted }) }
            thread.post { core in core.expanded(result, layer: layer, of: name) }
        }
    }

    private func expanded(_ result: Result<ExpandedLayer, any Error>, layer: Int, of name: String) {
        guard let model = model(name) else { return }
        model.expanding.remove(layer)
        guard let index = models.firstIndex(where: { $0 === model }) else { return }
        // Pressure may have come while the layer was being expanded: then its memory goes at once.
        if case .success(let expanded) = result, wanted()[index][layer], !model.model.isExpanded(layer) {
            model.install(expanded)
        }
        if case .failure = result { return }  // the next tick of the governor tries again
        govern()
    }
}
