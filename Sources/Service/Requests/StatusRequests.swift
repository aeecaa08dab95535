import EbbProtocol

/// What goes on, as far as it is the asker's business.
extension RequestHandler {
    func status(_ client: Client) async throws -> EbbStatus {
        let all = try await statusReport()
        return access.mayControl(client.peer) ? all : all.seen(by: client.peer.uid)
    }

    /// Answers with events until it is cancelled.
    func subscribe(_ client: Client, _ reply: Reply) async throws {
        let mayControl = access.mayControl(client.peer)
        let subscription = try events.subscribe(client.connection)
        defer { subscription.cancel() }
        await lookAtPressure()
        try await reply(.event(EbbEvent(present: pressure())))
        for await event in subscription.events { try await reply(.event(mayControl ? event : event.seenByUsers)) }
        throw ServiceError.cancelled
    }
}

extension EbbStatus {
    /// The same for a user who may not control: clients and requests are the user's own, and nothing tells how much others
    /// ask. Models, their layers and their memory are everybody's.
    package func seen(by uid: UInt32) -> EbbStatus {
        var status = self
        status.clients = clients.filter { $0.uid == uid }
        status.connections = UInt32(clamping: status.clients.count)
        status.activeRequests = status.clients.reduce(0) { $0 &+ $1.requests }
        status.queuedRequests = 0
        status.ledger = []
        status.models = models.map(\.withoutRequests)
        return status
    }
}

extension EbbModelStatus {
    /// Without what the requests of the moment, and the conversations that are kept, tell about those who asked.
    fileprivate var withoutRequests: EbbModelStatus {
        var model = self
        (model.activeRequests, model.queuedRequests) = (0, 0)
        (model.promptTokens, model.generatedTokens, model.prefillRate, model.decodeRate) = (0, 0, 0, 0)
        (model.prefixes, model.prefixBytes, model.reservedKvBytes, model.kvBytes) = (0, 0, 0, 0)
        (model.kvBlocks, model.kvBlocksInt8) = (0, 0)
        return model
    }
}

extension EbbEvent {
    /// Levels, modes and residency are everybody's, models' names among them; how many steps a model has run tells how
    /// much others ask, and what a dropped conversation gave back how long it was.
    package var seenByUsers: EbbEvent {
        var event = self
        event.step = 0
        if kind == .residency { event.freedBytes = 0 }
        if what == "kv_int8" { event.reason = "" }
        return event
    }
}
