import EbbProtocol

/// Stopping with nothing lost.
extension EbbService {
    /// Stops as a signal would: no new work, a grace for what runs, every last frame on its way. Returns when connections
    /// are closing.
    public func stop() async { await drain() }

    /// Refuses new work, lets requests of every kind end within the grace, then lets last frames leave and closes.
    func drain() async {
        guard connections.beginDraining() else { return }
        closeEntrance()
        thread.post { $0.isDraining = true }
        // Events have no end of their own.
        events.end()
        if connections.unanswered > 0 {
            logger.info(
                "draining", metadata: ["requests": "\(connections.unanswered)", "grace": "\(configuration.grace)"])
        }
        if await !allAnswered(within: configuration.grace) {
            logger.info("the grace is over", metadata: ["requests": "\(connections.unanswered)"])
            connections.fail(.shuttingDown)
            texts.stop()
            thread.post { $0.failAll(.shuttingDown) }
            _ = await allAnswered(within: .seconds(Connections.lastFrameSeconds))
        }
        connections.close()
        endArrivals()
    }

    /// Whether every request has its last answer queued, sooner or later.
    private func allAnswered(within time: Duration) async -> Bool {
        let clock = ContinuousClock()
        let end = clock.now + time
        while connections.unanswered > 0 {
            guard clock.now < end else { return false }
            try? await clock.sleep(for: .milliseconds(10))
        }
        return true
    }
}
