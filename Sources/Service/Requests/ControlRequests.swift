import EbbProtocol
import Governor

/// What an operator asks for: modes, preferences, pressure, and what happens.
extension RequestHandler {
    func demandControl(_ peer: Peer, _ what: String) throws {
        guard access.mayControl(peer) else {
            throw ServiceError(
                .permissionDenied, "uid \(peer.uid) may not \(what): root, the daemon's user and the admin group may")
        }
    }

    func setPreference(_ request: EbbSetPreference) async throws {
        let preference = request.hasPreference ? ModelState.Preference(request.preference) : nil
        guard preference != nil || !request.hasPreference else {
            throw ServiceError(.badRequest, "an unknown preference")
        }
        let priority = request.hasPriority ? Int(request.priority) : nil
        try await registry.prefer(request.model) { choice in
            if let preference { choice.preference = preference }
            if let priority { choice.priority = priority }
        }
    }

    func setPressure(_ request: EbbSetPressure) throws {
        guard let level = PressureLevel(rawValue: request.level.rawValue) else {
            throw ServiceError(.badRequest, "an unknown level")
        }
        guard request.seconds <= 86_400 else {
            throw ServiceError(.badRequest, "\(request.seconds) s: a level can be said for a day at most")
        }
        operatorSource.say(level, seconds: Double(request.seconds))
        wakeMonitor()
    }

    func subscribe(_ reply: Reply, _ started: (any Cancellable) -> Void) async throws {
        let subscription = events.subscribe()
        defer { subscription.cancel() }
        started(subscription)
        try await reply(.event(EbbEvent(present: pressure())))
        for await event in subscription.events { try await reply(.event(event)) }
        throw ServiceError.cancelled
    }
}
