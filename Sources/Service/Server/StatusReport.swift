import Dispatch
import EbbProtocol
import Engine
import Glibc
import Governor

/// What `ebbctl status` shows: memory as the kernel counts it now.
extension EbbService {
    /// The whole report; what of it a client sees is its request's matter.
    public func status() async throws -> EbbStatus {
        attention.begin()
        defer { attention.end() }
        await monitor.look()
        let (models, regions, status) = try await thread.perform { core in
            core.lookAtFiles()
            var status = EbbStatus()
            status.activeRequests = UInt32(clamping: core.activeRequests)
            status.queuedRequests = UInt32(clamping: core.queuedRequests)
            status.budgetBytes = UInt64(clamping: core.memory.policy.budget)
            status.reserveBytes = UInt64(clamping: core.memory.policy.reserve)
            return (core.models.map(\.status), core.models.map(\.regions), status)
        }
        var report = await Self.apart {
            var report = status
            report.models = models
            for index in report.models.indices { regions[index].measure(into: &report.models[index]) }
            self.describeProcess(&report)
            return report
        }
        describePressure(&report)
        describeLedger(&report)
        describeClients(&report)
        return report
    }

    /// The same in a line, without asking the kernel for anything.
    public func summary() async throws -> String {
        let (models, requests) = try await thread.perform { core in
            (core.models.map { "\($0.name) \($0.model.expandedLayers)/\($0.model.layerCount)" }, core.activeRequests)
        }
        let text = models.isEmpty ? "no model loaded" : "expanded layers: \(models.joined(separator: ", "))"
        return "\(monitor.view.level): \(text); \(requests) requests"
    }

    private static let queue = DispatchQueue(label: "ebb.status", qos: .utility)

    /// The kernel walks the page tables of the process to count: not on a thread that tasks share.
    private static func apart(_ work: @escaping @Sendable () -> EbbStatus) async -> EbbStatus {
        await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: work()) }
        }
    }

    private func describeProcess(_ status: inout EbbStatus) {
        status.server = "ebbd/\(EbbProtocol.release)"
        status.pid = UInt32(clamping: getpid())
        status.uptimeMs = UInt64(max(0, (ContinuousClock.now - started).seconds * 1000))
        status.availableBytes = UInt64(clamping: configuration.availableBytes())
        status.isa = configuration.kernels.name
        status.threads = UInt32(clamping: configuration.threads)
        let heap = HeapUse.now()
        (status.heapBytes, status.heapFreeBytes) = (UInt64(clamping: heap.used), UInt64(clamping: heap.unused))
        guard let memory = ProcessMemory.now() else { return }
        status.anonymousBytes = UInt64(clamping: memory.anonymous)
        status.fileBytes = UInt64(clamping: memory.file)
        let models = status.models.reduce(0) {
            $0 + $1.residentBytes + $1.expandedBytes + $1.kvBytes + $1.scratchBytes
        }
        let all = status.anonymousBytes + status.fileBytes
        status.ownBytes = all > models ? all - models : 0
    }

    private func describePressure(_ status: inout EbbStatus) {
        let view = monitor.view
        status.level = EbbLevel(rawValue: view.level.rawValue) ?? .nominal
        status.sources = view.sources.map { seen in
            var source = EbbSource()
            (source.name, source.reading) = (seen.name, seen.reading.text)
            source.level = seen.reading.level.flatMap { EbbLevel(rawValue: $0.rawValue) } ?? .nominal
            source.unknown = seen.reading.level == nil
            return source
        }
    }

    private func describeLedger(_ status: inout EbbStatus) {
        status.ledger = ledger.entries.map { kind, bytes in
            var entry = EbbLedgerEntry()
            (entry.kind, entry.bytes) = (kind.rawValue, UInt64(clamping: bytes))
            return entry
        }
    }

    private func describeClients(_ status: inout EbbStatus) {
        let open = connections.all
        status.connections = UInt32(clamping: open.count)
        status.clients = open.compactMap(\.status).sorted { ($0.pid, $0.name) < ($1.pid, $1.name) }
    }
}
