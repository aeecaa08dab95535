import EbbProtocol

/// Which models there are, and which are in memory.
extension RequestHandler {
    func listModels(_ client: Client) async throws -> EbbModels {
        let names = try await texts.run(.files, client.origin, cost: 1) { [adapters] job in
            try adapters.names { try job.demandWanted() }
        }
        let models = try await registry.list(client.origin).map { model in
            var model = model
            model.adapters = names[model.name] ?? []
            return model
        }
        return try EbbModels(fitting: models)
    }

    func load(_ request: EbbLoad, _ client: Client) async throws -> EbbStatus {
        try demandControl(client, "load a model")
        _ = try await registry.require(request.model, client.origin, peer: client.peer)
        var status = EbbStatus()
        let found = try await thread.perform { core in core.model(request.model).map { ($0.status, $0.regions) } }
        status.models = [found].compactMap { $0 }.map { model, regions in
            var model = model
            regions.measure(into: &model)
            return model
        }
        return status
    }

    func unload(_ request: EbbUnload, _ client: Client) async throws -> EbbDone {
        try demandControl(client, "unload a model")
        try await registry.unload(request.model, client.origin)
        return EbbDone()
    }
}
