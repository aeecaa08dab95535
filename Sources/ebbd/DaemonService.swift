import Logging
import Service
import ServiceLifecycle
import UnixSignals

/// The service together with what the process owes its surroundings: systemd's messages, its watchdog, and signals.
struct DaemonService: ServiceLifecycle.Service {
    let service: EbbService
    let preload: [String]
    let settings: String?
    let logger: Logger

    func run() async throws {
        let end = ImpatientEnd(grace: service.grace, socket: service.ownSocket, logger: logger)
        end.start()
        let watchdog = Watchdog(service.liveness(), logger: logger)
        defer { withExtendedLifetime(end) { watchdog?.stop() } }
        // Before systemd hears that the daemon is ready: from then on it may send one.
        let hangUps = await UnixSignalsSequence(trapping: .sighup)
        let surroundings = Task {
            await withDiscardingTaskGroup { group in
                group.addTask { await reload(at: hangUps) }
                group.addTask { await reportStatus() }
            }
        }
        defer { surroundings.cancel() }
        try await withGracefulShutdownHandler {
            try await service.run {
                Systemd.notify("READY=1\nSTATUS=serving")
                Task { await preloadModels() }
            }
        } onGracefulShutdown: {
            Systemd.notify("STOPPING=1\nSTATUS=waiting for running requests")
        }
    }

    private func preloadModels() async {
        for name in preload {
            do { try await service.load(name) } catch { logger.error("cannot load \(name): \(error)") }
        }
    }

    private func reload(at hangUps: UnixSignalsSequence) async {
        for await _ in hangUps {
            Systemd.notify("RELOADING=1\nMONOTONIC_USEC=\(Systemd.monotonicMicroseconds)")
            if let settings {
                do {
                    service.setPolicy(try Settings(path: settings).policy)
                    logger.info("read \(settings) again")
                } catch {
                    logger.error("\(settings) is kept as it was: \(error)")
                }
            }
            Systemd.notify("READY=1")
        }
    }

    /// Every five seconds at most, and only what is new.
    private func reportStatus() async {
        guard Systemd.isListening else { return }
        var last = ""
        for await _ in service.changes {
            if let text = try? await service.summary(), text != last {
                Systemd.notify("STATUS=\(text)")
                last = text
            }
            try? await Task.sleep(for: .seconds(5))
        }
    }
}
