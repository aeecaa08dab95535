import Engine
import Foundation
import Glibc
import Governor
import Logging
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

    /// nil: nothing is kept.
    let path: String?
    private let logger: Logger
    private let content: Mutex<Content>

    init(path: String?, logger: Logger) {
        self.path = path
        self.logger = logger
        var content = Content()
        if let path, let data = try? Data(contentsOf: URL(fileURLWithPath: path + "/models.json")) {
            do {
                content = try JSONDecoder().decode(Content.self, from: data)
            } catch {
                logger.warning("\(path)/models.json is not readable; preferences start anew: \(error)")
            }
        }
        self.content = Mutex(content)
        // Conversations of a daemon that ended otherwise than it should.
        if let parkingFolder { try? FileManager.default.removeItem(atPath: parkingFolder) }
    }

    /// Where conversations of parked models are kept while the daemon runs.
    var parkingFolder: String? { path.map { $0 + "/parked" } }

    func choice(_ model: String) -> Choice { content.withLock { $0.choices[model] ?? Choice() } }

    /// - Throws: ``ServiceError`` where it cannot be kept; it holds until the daemon ends all the same.
    func set(_ choice: Choice, of model: String) throws {
        content.withLock { $0.choices[model] = choice }
        try save()
    }

    /// What the probe measured under a key that names all it depends on.
    func costs(_ key: String) -> ModeCosts? { content.withLock { $0.costs[key] } }

    func set(_ costs: ModeCosts, of key: String) {
        content.withLock { $0.costs[key] = costs }
        do { try save() } catch { logger.warning("\(error)") }
    }

    private func save() throws {
        guard let path else { return }
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
            let data = try encoder.encode(content.withLock { $0 })
            try data.write(to: URL(fileURLWithPath: path + "/models.json"), options: .atomic)
        } catch {
            throw ServiceError(.internal, "cannot keep settings in \(path): \(error.localizedDescription)")
        }
    }
}
