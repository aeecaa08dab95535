import Engine
import Foundation
import Glibc
import Governor
import Logging
import Measuring
import ModelFormat
import Synchronization

/// What the daemon remembers over restarts: each model's preference and what its probe measured. A folder that cannot be
/// read or written costs the memory of it, nothing else.
final class StateFolder: Sendable {
    /// What was asked for a model.
    struct Choice: Codable, Equatable, Sendable {
        var preference = ModelState.Preference.accuracy
        var priority = 0
    }

    private struct Content: Codable {
        var choices: [String: Choice] = [:]
        /// By model, file, instruction set and threads: see ``costs(_:)``.
        var costs: [String: ModeCosts] = [:]
    }

    private struct State {
        var content = Content()
        /// A save that has not begun: it takes along what changes until it does.
        var coming: Promise<Void>?
    }

    /// nil: nothing is kept.
    let path: String?
    /// A locked file in the folder, or -1: two daemons would undo what the other remembers and parks.
    private let lock: Int32
    private let texts: TextPool
    private let logger: Logger
    private let state: Mutex<State>

    /// Bytes of the state file that are read, and written.
    private static let mostBytes = 4 << 20
    /// Models that something is remembered of.
    private static let mostEntries = 4096

    /// Reads what was kept, and makes the folder where it is missing.
    init(path: String?, texts: TextPool, logger: Logger) {
        self.texts = texts
        self.logger = logger
        var content = Content()
        if let path {
            do {
                try FileManager.default.createDirectory(
                    atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            } catch {
                logger.warning(
                    "nothing is remembered over restarts: cannot make \(path): \(error.localizedDescription)")
            }
        }
        lock = path.map { open($0 + "/lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600) } ?? -1
        if let path, lock >= 0, flock(lock, LOCK_EX | LOCK_NB) != 0 {
            logger.warning(
                "nothing is remembered over restarts: another ebbd uses \(path); give --state another folder")
            self.path = nil
        } else {
            self.path = path
        }
        if let path = self.path {
            do {
                content = try Self.read(path + "/models.json") ?? content
            } catch {
                logger.warning("\(path)/models.json is not readable; preferences start anew: \(error)")
            }
        }
        state = Mutex(State(content: content))
        // Conversations of a daemon that ended otherwise than it should.
        if let parkingFolder { try? FileManager.default.removeItem(atPath: parkingFolder) }
    }

    deinit { close(lock) }

    /// Lets another daemon use the folder.
    func letGo() { flock(lock, LOCK_UN) }

    /// - Returns: nil where there is no file.
    private static func read(_ path: String) throws -> Content? {
        guard access(path, F_OK) == 0 else { return nil }
        let bytes = try SmallFile.read(path, limit: mostBytes)
        return try JSONDecoder().decode(Content.self, from: Data(bytes))
    }

    /// Where conversations of parked models are kept while the daemon runs.
    var parkingFolder: String? { path.map { $0 + "/parked" } }

    func choice(_ model: String) -> Choice { state.withLock { $0.content.choices[model] ?? Choice() } }

    /// - Throws: ``ServiceError`` where it cannot be kept; it holds until the daemon ends all the same.
    func set(_ choice: Choice, of model: String) async throws {
        try state.withLock { state in
            guard state.content.choices[model] != nil || state.content.choices.count < Self.mostEntries else {
                throw ServiceError(.badRequest, "preferences of \(Self.mostEntries) models are kept, and no more")
            }
            state.content.choices[model] = choice
        }
        try await save()
    }

    /// What the probe measured under a key that names all it depends on.
    func costs(_ key: String) -> ModeCosts? { state.withLock { $0.content.costs[key] } }

    func set(_ costs: ModeCosts, of key: String) {
        state.withLock { state in
            // Files come and go: what was measured of them can be measured again.
            if state.content.costs.count >= Self.mostEntries { state.content.costs = [:] }
            state.content.costs[key] = costs
        }
        Task {
            do { try await save() } catch { logger.warning("\(error)") }
        }
    }

    /// Has what is remembered written, once for all who ask before it begins.
    private func save() async throws {
        guard let path else { return }
        let (promise, isNew) = state.withLock { state in
            if let coming = state.coming { return (coming, false) }
            let new = Promise<Void>()
            state.coming = new
            return (new, true)
        }
        if isNew { Task { await carryOut(promise, path) } }
        try await promise.value()
    }

    private func carryOut(_ promise: Promise<Void>, _ path: String) async {
        do {
            try await texts.run(.files, .daemon, cost: 1) { [self] _ in try write(path) }
            promise.keep(.success(()))
        } catch {
            // Where it has not begun, nobody else is to wait for it.
            state.withLock { if $0.coming === promise { $0.coming = nil } }
            promise.keep(.failure(error))
        }
    }

    private func write(_ path: String) throws {
        let content = state.withLock { state in
            state.coming = nil
            return state.content
        }
        do {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
            let data = try encoder.encode(content)
            try data.write(to: URL(fileURLWithPath: path + "/models.json"), options: .atomic)
        } catch {
            throw ServiceError(.internal, "cannot keep settings in \(path): \(error.localizedDescription)")
        }
    }
}
