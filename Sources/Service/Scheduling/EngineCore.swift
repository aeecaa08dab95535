import Engine
import Governor

/// What the engine thread owns: the loaded models, and which of their layers are expanded.
final class EngineCore {
    private(set) var models: [HostedModel] = []
    let residency: Residency
    /// Told when a model is no more because its file is.
    private let onLost: @Sendable (String) -> Void

    private let heartbeat: () -> Void

    init(heartbeat: @escaping () -> Void, residency: Residency, onLost: @escaping @Sendable (String) -> Void) {
        self.heartbeat = heartbeat
        self.residency = residency
        self.onLost = onLost
    }

    func model(_ name: String) -> HostedModel? { models.first { $0.name == name } }

    func add(_ model: HostedModel) {
        models.append(model)
        model.model.betweenLayers = { [weak self] in self?.governWithinStep() }
        residency.tell(.residency, model, "loaded", "a request or the operator asked for it")
        residency.govern(models)
    }

    func remove(_ name: String, reason: String = "the operator unloaded it") throws {
        guard let model = model(name) else { throw ServiceError(.unknownModel, "\(name) is not loaded") }
        model.failAll(ServiceError(.modelUnusable, "\(name) was unloaded"))
        models.removeAll { $0 === model }
        residency.forget(model)
        residency.tell(.residency, model, "unloaded", reason)
    }

    var activeRequests: Int { models.reduce(0) { $0 + $1.activeRequests } }

    /// One step of every model that has work, and a piece of what the governor wants done. False if nothing was to do.
    func turn() -> Bool {
        let start = MonotonicClock.now()
        var worked = false
        for model in models where model.step() { worked = true }
        for model in models where model.model.file.isCutShort {
            lose(model, "its file was cut short while it was mapped")
        }
        let busy = residency.work(models, stepSeconds: worked ? MonotonicClock.now() - start : nil)
        return worked || busy
    }

    func failAll(_ error: ServiceError) {
        for model in models { model.failAll(error) }
    }

    func setWish(_ wish: ModelState.Wish, of name: String) throws {
        guard let model = model(name) else { throw ServiceError(.unknownModel, "\(name) is not loaded") }
        // What the other mode has computed is not what this one is asked for.
        if model.wish != wish { _ = model.dropPrefixes() }
        model.wish = wish
        residency.govern(models)
    }

    // MARK: The governor

    func govern(_ news: GovernorNews) {
        lookAtFiles(now: news.now)
        residency.take(news, models)
        residency.govern(models)
    }

    private func governWithinStep() {
        heartbeat()
        guard let news = residency.urgentNews() else { return }
        residency.take(news, models)
        residency.shrink(models)
    }

    private var lastLook = 0.0

    /// Notices files that were written over or replaced, once a second.
    private func lookAtFiles(now: Double) {
        guard now - lastLook >= 1 else { return }
        lastLook = now
        for model in models {
            switch model.model.file.look() {
            case .unchanged: break
            // What it finds shows at the next look.
            case .touched: model.model.file.recheck { _ in }
            case .damaged: lose(model, "its file was written over while it was mapped")
            case .replaced where model.activeRequests == 0:
                lose(model, "its file was replaced; the next request loads the new one")
            case .replaced: break
            }
        }
    }

    private func lose(_ model: HostedModel, _ reason: String) {
        model.failAll(HostedModel.cutShort(model.name))
        try? remove(model.name, reason: reason)
        onLost(model.name)
    }
}
