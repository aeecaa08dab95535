import Dispatch
import Engine
import Governor
import Measuring
import ModelFormat

/// Measures what a model's two modes cost, once, beside what is running: on one thread, with a model of its own on the same
/// pages.
struct ModelProbe: Sendable {
    let store: ModelStore
    let thread: EngineThread
    let configuration: ServiceConfiguration
    let state: StateFolder

    func start(_ name: String, costsKey: String) {
        Task {
            // Requests come first: the probe would take a thread from them.
            for _ in 0..<60 {
                try await Task.sleep(for: .seconds(1))
                if try await thread.perform({ $0.activeRequests }) == 0 { break }
            }
            let admission = try await thread.perform { $0.memory.admission() }
            guard admission.level == .nominal else { return }
            let spare = min(
                admission.available - admission.policy.reserve,
                admission.policy.budget - admission.inUse + admission.reclaimable)
            let most = max(0, spare) / 2
            // A thread of its own: those of the connections, and of texts, must not wait for arithmetic.
            DispatchQueue(label: "ebb.probe", qos: .utility).async {
                guard let costs = try? measure(name, mostBytes: most) else { return }
                state.set(costs, of: costsKey)
                thread.post { core in
                    core.model(name)?.costs = costs
                    core.memory.reconsider()
                }
            }
        }
    }

    private func measure(_ name: String, mostBytes: Int) throws -> ModeCosts {
        let file = try store.open(name)
        let pool = try WorkerPool(threads: 1)
        if EncoderModel.isEncoder(file) {
            let model = try EncoderModel(file, pool: pool, kernels: configuration.kernels)
            return try ModeProbe.run(model, mostBytes: mostBytes)
        }
        var options = configuration.model
        (options.contextLimit, options.sequences) = (256, 1)
        let model = try DecoderModel(file, pool: pool, kernels: configuration.kernels, options: options)
        return try ModeProbe.run(model, mostBytes: mostBytes)
    }
}
