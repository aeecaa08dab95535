import Foundation
import TestKit
import Testing

@Suite("The governor as a process", .serialized)
struct GovernorProgramTests {
    /// Impatient, so that a test need not wait.
    private static let settings =
        #"{"calmSeconds": 0.2, "dwellSeconds": 0.2, "memoryReserve": "8M", "memoryBudget": "90%"}"#

    private struct Model {
        let expandedLayers, layers: Int
        let resident, expanded, kv, scratch: Int

        init(_ json: [String: Any]) {
            // Protobuf's JSON writes 64-bit numbers as texts, and leaves zeros out.
            func number(_ key: String) -> Int { (json[key] as? Int) ?? (json[key] as? String).flatMap { Int($0) } ?? 0 }
            (expandedLayers, layers) = (number("expandedLayers"), number("layers"))
            (resident, expanded) = (number("residentBytes"), number("expandedBytes"))
            (kv, scratch) = (number("kvBytes"), number("scratchBytes"))
        }

        var bytes: Int { resident + expanded + kv + scratch }
    }

    private func status(_ daemon: Daemon) throws -> [String: Any] {
        let text = try daemon.ctl(["status", "--json"]).output
        return try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
    }

    private func model(_ status: [String: Any]) -> Model? {
        (status["models"] as? [[String: Any]])?.first.map { Model($0) }
    }

    @Test("bench --switching finds a run with the same switches at the same steps identical, and no error")
    func switching() throws {
        let daemon = try Daemon(settings: Self.settings)
        let models = try Daemon.models()
        let outcome = try daemon.ctl([
            "bench", "smollm2", "--switching", "--flips", "62", "--rounds", "2", "--json", "--models", models,
        ])
        #expect(outcome.code == 0, "\(outcome.errors)")
        let report = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any]
        #expect(report?["isIdentical"] as? Bool == true && report?["flipErrors"] as? Int == 0)
        #expect(report?["flips"] as? Int ?? 0 >= 62)
        #expect((report?["reaction"] as? [String: Any])?["count"] as? Int == 2)
    }

    @Test(
        "What status shows adds up to the kernel's own figures within 5 %", .disabled(if: Programs.isSanitized),
        arguments: ["memory_low", "dequantized"])
    func accounting(mode: String) throws {
        let daemon = try Daemon()
        let own = try kernelFigures(daemon).rss
        let text = String(repeating: "word ", count: 300)
        #expect(try daemon.ctl(["mode", "smollm2", mode]).code == 0)
        #expect(try daemon.ctl(["run", "smollm2", "--raw", text, "-n", "4"]).code == 0)
        let shown = try #require(model(try status(daemon)))
        let kernel = try kernelFigures(daemon)
        // The vocabulary and its tables come to the daemon's own with the model.
        let ratio = Double(shown.bytes + own) / Double(kernel.rss)
        print("\(mode): \(shown.bytes >> 20) MiB shown + \(own >> 20) MiB before, kernel \(kernel.rss >> 20) MiB")
        #expect(ratio < 1.05 && kernel.rss - shown.bytes - own < 32 << 20)
        #expect(abs(shown.resident - kernel.mapped) < kernel.rss / 20)
        #expect(shown.expanded + shown.kv + shown.scratch < kernel.anonymous)
        let total = try status(daemon)["ownBytes"].flatMap { ($0 as? String).flatMap { Int($0) } } ?? 0
        #expect(abs(Double(shown.bytes + total) / Double(kernel.rss) - 1) < 0.05)
    }

    /// Bytes in RAM, of them anonymous, and of mapped models, from /proc/PID/smaps.
    private func kernelFigures(_ daemon: Daemon) throws -> (rss: Int, anonymous: Int, mapped: Int) {
        var (rss, anonymous, mapped) = (0, 0, 0)
        var isModel = false
        // Files of /proc have no size: they are read to their end, a line at a time.
        let stream = try #require(fopen("/proc/\(daemon.process.pid)/smaps", "re"))
        defer { fclose(stream) }
        var buffer = [CChar](repeating: 0, count: 8192)
        while fgets(&buffer, Int32(buffer.count), stream) != nil {
            let line = String(
                decoding: buffer.prefix { $0 != 0 && $0 != 10 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            let words = line.split(separator: " ")
            let bytes = words.count > 1 ? (Int(words[1]) ?? 0) * 1024 : 0
            if line.hasPrefix("Rss:") { (rss, mapped) = (rss + bytes, mapped + (isModel ? bytes : 0)) }
            if line.hasPrefix("Anonymous:") { anonymous += bytes }
            if words.first?.contains("-") == true { isModel = line.hasSuffix(".ebb") }
        }
        return (rss, anonymous, mapped)
    }

    @Test(
        "In a control group of 280 MB a model is expanded in part, gives way to another process, and nobody is killed",
        .disabled(if: Programs.isSanitized))
    func memoryGroup() throws {
        guard let group = try MemoryGroup(bytes: 280 << 20) else { return }
        let daemon = try Daemon(mode: "auto", settings: Self.settings, first: "echo $$ > \(group.path)/cgroup.procs")
        #expect(try daemon.ctl(["run", "smollm2", "--raw", "The sea", "-n", "4"]).code == 0)
        func expanded() throws -> Int { model(try status(daemon))?.expandedLayers ?? 0 }
        try Programs.wait("some layers expanded") { try expanded() >= 5 }
        usleep(500_000)
        let before = try expanded()
        #expect(before < 31)
        let sources = try status(daemon)["sources"] as? [[String: Any]]
        let reading = sources?.first { $0["name"] as? String == "cgroup" }?["reading"] as? String
        #expect(reading?.contains("of 280 MiB") == true, "\(reading ?? "no cgroup source")")
        let folder = try TemporaryFolder()
        let stream = try Child(
            "ebbctl", ["run", "smollm2", "--raw", "The sea", "-n", "400", "--socket", daemon.socket], environment: [:],
            folder: folder)
        let hog =
            "echo $$ > \(group.path)/cgroup.procs && exec python3 -c 'import time; b = bytearray(60 << 20); time.sleep(600)'"
        let other = try Child("/bin/sh", ["-c", hog], environment: [:], folder: try TemporaryFolder())
        // The other takes the memory of eight; what is generated meanwhile takes that of one or two.
        try Programs.wait("fewer expanded layers") { try expanded() <= before - 4 }
        other.signal(SIGKILL)
        #expect(try stream.wait() == 0)
        #expect(daemon.process.isRunning && group.kills == 0)
        // What has been generated may be kept, in the room of one or two.
        try Programs.wait("layers expanded again") { try expanded() >= before - 3 }
    }
}

/// A memory control group of version 1 or 2, for as long as this object lasts.
private final class MemoryGroup {
    let path: String

    /// nil, with the reason printed, where this machine lets no one make one.
    init?(bytes: Int) throws {
        let name = "ebb-test-\(getpid())"
        let places = [
            ("/sys/fs/cgroup/\(name)", "memory.max"), ("/sys/fs/cgroup/memory/\(name)", "memory.limit_in_bytes"),
        ]
        for (path, limit) in places where mkdir(path, 0o755) == 0 {
            // A folder that is no group has no such file.
            if access("\(path)/cgroup.procs", W_OK) == 0,
                (try? "\(bytes)".write(toFile: "\(path)/\(limit)", atomically: false, encoding: .utf8)) != nil
            {
                self.path = path
                return
            }
            rmdir(path)
        }
        print("skipped: this machine does not let the test make a memory control group")
        return nil
    }

    /// Processes that the kernel killed in it.
    var kills: Int {
        for file in ["memory.events", "memory.oom_control"] {
            guard let text = try? String(contentsOfFile: "\(path)/\(file)", encoding: .utf8) else { continue }
            let line = text.split(separator: "\n").first { $0.hasPrefix("oom_kill ") }
            return line.flatMap { Int($0.dropFirst(9)) } ?? 0
        }
        return 0
    }

    deinit {
        // Its processes are gone a moment after they were killed.
        var tries = 0
        while rmdir(path) != 0, tries < 200 {
            tries += 1
            usleep(20_000)
        }
    }
}
