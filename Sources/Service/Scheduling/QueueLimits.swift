/// Whether one more request may wait.
struct QueueLimits {
    let total, perUser, perConnection: Int

    init(_ limits: ServiceLimits) {
        (total, perUser) = (limits.maxQueued, limits.maxQueuedPerUser)
        perConnection = limits.maxQueuedPerConnection
    }

    /// - Parameter waiting: whose requests wait now.
    /// - Throws: ``ServiceError`` where a queue is full.
    func demandRoom(for origin: RequestOrigin, among waiting: [RequestOrigin]) throws {
        func refuse(_ what: String) -> ServiceError { ServiceError(.overloaded, what, retryAfter: 500) }
        guard waiting.count < total else { throw refuse("\(total) requests are waiting") }
        let users = waiting.count { $0.uid == origin.uid }
        guard users < perUser else { throw refuse("\(perUser) requests of uid \(origin.uid) are waiting") }
        let connections = waiting.count { $0.connection == origin.connection }
        guard connections < perConnection else {
            throw refuse("\(perConnection) requests of this connection are waiting")
        }
    }
}
