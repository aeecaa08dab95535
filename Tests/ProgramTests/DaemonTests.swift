import Foundation
import Testing
import TestKit

@Suite("ebbd as a process", .serialized)
struct DaemonTests {
    @Test("run, status, mode, models, load and unload work as a person would use them")
    func commands() throws {
        let daemon = try Daemon()
        let models = try daemon.ctl(["models"])
        let words = models.output.split(separator: "\n").first { $0.hasPrefix("smollm2") }?.split(separator: " ") ?? []
        #expect(words.prefix(5) == ["smollm2", "text", "llama", "135", "M"], "\(models.output)")
        #expect(!models.output.contains("loaded"))
        let answer = try daemon.ctl([
            "run", "smollm2", "Name the capital of France.", "--temperature", "0", "-n", "40",
        ])
        #expect(answer.code == 0 && answer.output.contains("Paris"), "\(answer.errors)")
        #expect(answer.errors.contains("prefill") && answer.errors.contains("t/s"))
        let mode = try daemon.ctl(["mode", "smollm2", "dequantized"])
        #expect(mode.output.contains("31 of 31 layers"), "\(mode.output)\(mode.errors)")
        let status = try daemon.ctl(["status"])
        #expect(status.output.contains("dequantized") && status.output.contains("31/31"))
        #expect(!status.output.split(separator: "\n").contains { $0.count > 100 })
        let json = try daemon.ctl(["status", "--json"])
        let parsed = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        #expect((parsed?["models"] as? [[String: Any]])?.first?["expandedLayers"] as? Int == 31)
        #expect(try daemon.ctl(["mode", "smollm2", "memory_low"]).output.contains("0 of 31"))
        #expect(try daemon.ctl(["unload", "smollm2"]).code == 0)
        let raw = try daemon.ctl(["run", "smollm2", "--raw", "The sea", "-n", "4", "--json"])
        let report = try JSONSerialization.jsonObject(with: Data(raw.output.utf8)) as? [String: Any]
        #expect(report?["generated_tokens"] as? Int == 4 && report?["reason"] as? String == "length")
        let unknown = try daemon.ctl(["load", "nothing"])
        #expect(unknown.code != 0 && unknown.errors.contains("smollm2"))
    }

    @Test("Loaded in memory_low with a context of 2048, anonymous memory stays under 64 MiB and the KV cache")
    func anonymousMemory() throws {
        let daemon = try Daemon(["--context", "2048"])
        #expect(try daemon.ctl(["load", "smollm2"]).code == 0)
        // A prompt that fills the context, so that the KV cache and all scratch have really been touched.
        let text = String(repeating: "word ", count: 2000)
        #expect(try daemon.ctl(["run", "smollm2", "--raw", text, "-n", "20"]).code == 0)
        let kv = 30 * 2 * 192 * 2048 * 2
        let anonymous = try daemon.memory("RssAnon")
        print("RssAnon after a full context: \(anonymous >> 20) MiB (KV cache of it \(kv >> 20) MiB)")
        #expect(anonymous < 64 << 20 + kv)
    }

    @Test("SIGTERM lets a running stream end, removes the socket and exits with 0")
    func terminate() throws {
        let daemon = try Daemon(["--grace", "600"])
        let folder = try TemporaryFolder()
        let client = try Child(
            "ebbctl",
            [
                "run", "smollm2", "--raw", "The sea", "-n", "200", "--temperature", "0", "--json", "--socket",
                daemon.socket,
            ],
            environment: [:], folder: folder)
        try Programs.wait("the request") {
            try daemon.ctl(["status"]).output.contains("1 requests under way") || !client.isRunning
        }
        daemon.signal(SIGTERM)
        #expect(try client.wait() == 0)
        let output = try Data(contentsOf: URL(fileURLWithPath: folder.file("out")))
        let report = try JSONSerialization.jsonObject(with: output) as? [String: Any]
        #expect(report?["generated_tokens"] as? Int == 200)
        #expect(try daemon.process.wait() == 0)
        #expect(!FileManager.default.fileExists(atPath: daemon.socket))
    }

    @Test("systemd is told of readiness, status, life and the stop")
    func notifications() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("notify")
        let receiver = try NotifySocket(path)
        let daemon = try Daemon(environment: ["NOTIFY_SOCKET": path, "WATCHDOG_USEC": "600000"])
        var heard = ""
        try Programs.wait("READY and WATCHDOG") {
            heard += receiver.receive()
            return heard.contains("READY=1") && heard.contains("WATCHDOG=1")
        }
        daemon.signal(SIGHUP)
        try Programs.wait("RELOADING") {
            heard += receiver.receive()
            return heard.contains("RELOADING=1")
        }
        try Programs.wait("STATUS") {
            heard += receiver.receive()
            return heard.contains("STATUS=nominal") || heard.contains("STATUS=serving")
        }
        daemon.signal(SIGTERM)
        _ = try daemon.process.wait()
        heard += receiver.receive()
        #expect(heard.contains("STOPPING=1"))
    }

    @Test("A SIGHUP that follows on readiness at once reads the settings again and ends nothing")
    func earlyHangUp() throws {
        for _ in 0..<10 {
            let folder = try TemporaryFolder()
            let path = folder.file("notify")
            let receiver = try NotifySocket(path)
            let daemon = try Child(
                "ebbd", ["--socket", folder.file("s"), "--models", folder.path, "--state", folder.file("state")],
                environment: ["NOTIFY_SOCKET": path], folder: folder)
            defer { daemon.signal(SIGKILL) }
            var heard = ""
            // Without a pause, as a service manager that has several things to do would.
            while !heard.contains("READY=1"), daemon.isRunning { heard += receiver.receive() }
            daemon.signal(SIGHUP)
            try Programs.wait("RELOADING") {
                heard += receiver.receive()
                return heard.contains("RELOADING=1") || !daemon.isRunning
            }
            #expect(daemon.isRunning)
        }
    }

    @Test("A socket that systemd hands over is served")
    func socketActivation() throws {
        let activate = "/usr/bin/systemd-socket-activate"
        guard FileManager.default.isExecutableFile(atPath: activate) else {
            print("skipped: there is no \(activate)")
            return
        }
        let folder = try TemporaryFolder()
        let socket = folder.file("activated")
        let process = try Child(
            activate,
            ["-l", socket, "\(Programs.folder)/ebbd", "--models", try Daemon.models(), "--socket", "/nonexistent/s"],
            environment: [:], folder: folder)
        defer { process.signal(SIGTERM) }
        try Programs.wait("the socket") { FileManager.default.fileExists(atPath: socket) }
        let models = try Programs.run("ebbctl", ["models", "--socket", socket])
        #expect(models.output.contains("smollm2"), "\(models.errors)")
    }

    @Test("The units are accepted by systemd-analyze verify")
    func units() throws {
        let analyze = "/usr/bin/systemd-analyze"
        guard FileManager.default.isExecutableFile(atPath: analyze) else {
            print("skipped: there is no \(analyze)")
            return
        }
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../../systemd")
            .standardized.path
        let folder = try TemporaryFolder()
        // verify wants the program to exist where the unit says.
        let unit = try String(contentsOfFile: root + "/ebbd.service", encoding: .utf8)
            .replacingOccurrences(of: "/usr/bin/ebbd", with: "\(Programs.folder)/ebbd")
        try folder.write("ebbd.service", Array(unit.utf8))
        try folder.write("ebbd.socket", Array(try Data(contentsOf: URL(fileURLWithPath: root + "/ebbd.socket"))))
        let outcome = try Programs.run(
            analyze, ["verify", "--man=no", folder.file("ebbd.service"), folder.file("ebbd.socket")])
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(!outcome.errors.contains("ebbd"), "\(outcome.errors)")
    }

    @Test("Settings that are no settings are refused at the start")
    func badSettings() throws {
        let folder = try TemporaryFolder()
        for text in ["nonsense", "{\"memoryBudget\": \"lots\"}"] {
            let path = try folder.write("s.json", Array(text.utf8))
            let outcome = try Programs.run(
                "ebbd", ["--settings", path, "--socket", folder.file("s"), "--models", folder.path])
            #expect(outcome.code != 0 && outcome.errors.contains("s.json"), "\(outcome.errors)")
        }
    }
}

/// The receiving end of sd_notify.
final class NotifySocket {
    private let fd: Int32

    init(_ path: String) throws {
        fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(fd, $0, size) }
        }
        guard code == 0 else { throw CocoaError(.fileWriteUnknown) }
    }

    deinit { close(fd) }

    /// All that has come, without waiting.
    func receive() -> String {
        var text = ""
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let n = recv(fd, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if n <= 0 { return text }
            text += String(decoding: buffer[..<n], as: UTF8.self) + "\n"
        }
    }
}
