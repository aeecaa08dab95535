import EbbProtocol
import Engine
import ModelFormat

/// The folder of adapters, inside that of models. What waits for the disk here runs on the ``TextPool``'s file lane; each model
/// keeps the adapters that it was last asked for.
struct AdapterCatalog: Sendable {
    let store: ModelStore
    let thread: EngineThread
    let texts: TextPool
    /// The names of the models that they were imported for; nil of a file that holds no adapter.
    private let bases: FolderReadings<String?>

    init(store: ModelStore, thread: EngineThread, texts: TextPool) {
        (self.store, self.thread, self.texts) = (store, thread, texts)
        // A name that no model can have is none, however long.
        bases = FolderReadings(store) { file in
            Adapter.base(file).flatMap { (try? store.path(of: $0)) == nil ? nil : $0 }
        }
    }

    /// Of which models there are adapters, by the names that they were imported for.
    /// - Throws: ``ServiceError`` where the folder cannot be read.
    func names(_ check: () throws -> Void) throws -> [String: [String]] {
        var found: [String: [String]] = [:]
        // A file that is none is named where it is asked for.
        for entry in try bases.scan(check) {
            if let base = entry.value ?? nil { found[base, default: []].append(entry.name) }
        }
        return found
    }

    /// The adapters that a request asks for, loaded for its model, in the order of their names.
    /// - Throws: ``ServiceError``: BAD_REQUEST for a name that there is not, MODEL_UNUSABLE for one that does not fit the model.
    func require(_ wanted: [EbbAdapter], of model: LoadedModel, _ origin: RequestOrigin) async throws -> [AdapterUse] {
        var uses: [AdapterUse] = []
        for adapter in wanted.sorted(by: { $0.name < $1.name }) where adapter.effectiveStrength != 0 {
            let loaded = try await load(adapter.name, of: model.name, origin)
            uses.append(AdapterUse(adapter: loaded, strength: adapter.effectiveStrength))
        }
        return uses
    }

    private func load(_ name: String, of model: String, _ origin: RequestOrigin) async throws -> Adapter {
        let identity = try await texts.run(.files, origin, cost: 1) { _ in try look(name) }
        let kept: Adapter? = try await thread.perform { try shelf($0, model).adapters.find(name, identity) }
        if let kept { return kept }
        let file = try await texts.run(.files, origin, cost: 1) { _ in try open(name) }
        return try await thread.perform { core in
            let hosted = try shelf(core, model)
            let adapter: Adapter
            do { adapter = try Adapter(file, for: hosted.decoder) } catch { throw ServiceError.unusable(error) }
            hosted.adapters.keep(adapter, name, identity)
            return adapter
        }
    }

    private func shelf(_ core: EngineCore, _ model: String) throws -> HostedDecoder {
        guard let hosted = core.model(model) as? HostedDecoder else {
            throw ServiceError(.modelUnusable, "\(model) was unloaded meanwhile", retryAfter: 100)
        }
        return hosted
    }

    private func look(_ name: String) throws -> FileIdentity {
        do { return try FileIdentity(try store.path(of: name)) } catch { throw unknown(name) }
    }

    private func open(_ name: String) throws -> EbbFile {
        do {
            let file = try store.open(name)
            // An adapter is small, and nobody else looks at its checksums.
            try file.verify()
            return file
        } catch { throw ServiceError.unusable(error) }
    }

    private func unknown(_ name: String) -> ServiceError {
        let known = (try? store.names()) ?? []
        let listed = known.prefix(ModelCatalog.mostNames).joined(separator: ", ")
        return ServiceError(
            .badRequest,
            "no adapter is named \"\(name.prefix(ModelCatalog.mostCharacters))\": "
                + (known.isEmpty ? "none is imported yet (ebbctl adapter import)" : "there are \(listed)"))
    }
}
