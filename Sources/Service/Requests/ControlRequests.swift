import EbbProtocol
import Governor

/// What an operator asks for: modes, preferences, pressure.
extension RequestHandler {
    func setMode(_ request: EbbSetMode, _ client: Client) async throws -> EbbDone {
        try demandControl(client, "set a model's mode")
        guard let wish = ModelState.Wish(request.mode) else { throw ServiceError(.badRequest, "an unknown mode") }
        _ = try await registry.require(request.model, client.origin, peer: client.peer)
        try await thread.perform { try $0.setWish(wish, of: request.model) }
        return EbbDone()
    }

    func setPreference(_ request: EbbSetPreference, _ client: Client) async throws -> EbbDone {
        try demandControl(client, "set a model's preference")
        let preference = request.hasPreference ? ModelState.Preference(request.preference) : nil
        guard preference != nil || !request.hasPreference else {
            throw ServiceError(.badRequest, "an unknown preference")
        }
        let priority = request.hasPriority ? Int(request.priority) : nil
        try await registry.prefer(request.model, client.origin) { choice in
            if let preference { choice.preference = preference }
            if let priority { choice.priority = priority }
        }
        return EbbDone()
    }

    func setPressure(_ request: EbbSetPressure, _ client: Client) async throws -> EbbDone {
        try demandControl(client, "set the level of pressure")
        guard let level = PressureLevel(rawValue: request.level.rawValue) else {
            throw ServiceError(.badRequest, "an unknown level")
        }
        guard request.seconds <= 86_400 else {
            throw ServiceError(.badRequest, "\(request.seconds) s: a level can be said for a day at most")
        }
        operatorSource.say(level, seconds: Double(request.seconds))
        await lookAtPressure()
        return EbbDone()
    }
}
