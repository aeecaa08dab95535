import Foundation
import Governor
import ModelFormat
import Service

/// The settings file: limits that can change while the daemon runs.
///
/// `{"memoryBudget": "25%", "memoryReserve": "1G", "idleSeconds": 1800, "calmSeconds": 10, "dwellSeconds": 5}`
///
/// - memoryBudget: what Ebb may take in all. memoryReserve: what stays with the system.
/// - idleSeconds: without a request, until a model is parked.
/// - calmSeconds: of nominal, until layers are expanded. dwellSeconds: that a level holds; read at the start only.
struct Settings {
    let policy: Policy

    private struct Content: Decodable {
        var memoryBudget: String?
        var memoryReserve: String?
        var idleSeconds: Double?
        var calmSeconds: Double?
        var dwellSeconds: Double?
    }

    /// - Throws: ``FormatError`` that names what is wrong with the file.
    init(path: String) throws {
        let content: Content
        do {
            content = try JSONDecoder().decode(Content.self, from: try Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw FormatError("\(path) is no readable settings file: \(error)")
        }
        var policy = ServiceConfiguration.defaultPolicy
        let total = SystemMemory.now()?.total ?? policy.budget * 4
        if let text = content.memoryBudget { policy.budget = try Self.bytes(text, of: total, path) }
        if let text = content.memoryReserve { policy.reserve = try Self.bytes(text, of: total, path) }
        if let seconds = content.idleSeconds { policy.idleTime = try Self.seconds(seconds, path) }
        if let seconds = content.calmSeconds { policy.calmBeforeGrowth = try Self.seconds(seconds, path) }
        if let seconds = content.dwellSeconds { policy.dwell = try Self.seconds(seconds, path) }
        self.policy = policy
    }

    private static func seconds(_ value: Double, _ path: String) throws -> Double {
        guard value >= 0, value < 1e9 else { throw FormatError("\(path): \(value) is no number of seconds") }
        return value
    }

    /// `512M`, `2G`, `1000000` or `25%`.
    private static func bytes(_ text: String, of total: Int, _ path: String) throws -> Int {
        let units: [Character: Double] = ["%": Double(total) / 100, "K": 0x1p10, "M": 0x1p20, "G": 0x1p30, "T": 0x1p40]
        let unit = text.last.flatMap { units[$0] }
        guard let number = Double(unit == nil ? text[...] : text.dropLast()), number >= 0, number < 1e15,
            number * (unit ?? 1) < 1e18
        else { throw FormatError("\(path): \"\(text)\" is no size (512M, 2G, 25%)") }
        return Int(number * (unit ?? 1))
    }
}
