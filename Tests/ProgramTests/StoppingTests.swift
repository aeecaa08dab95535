import EbbClient
import Foundation
import Testing
import TestKit

@Suite("ebbd at its limits, as a process", .serialized)
struct StoppingTests {
    /// A daemon that may open so many files.
    private func limited(_ files: Int, _ folder: TemporaryFolder, models: String) throws -> Child {
        let arguments = ["--socket", folder.file("s"), "--models", models, "--mode", "memory_low", "--no-probe"]
        // What the tests have open is not the daemon's.
        let script = """
            for file in /proc/self/fd/*; do
                number=${file##*/}
                [ "$number" -gt 2 ] && eval "exec $number>&-"
            done
            ulimit -n \(files) && exec "$0" "$@"
            """
        let child = try Child(
            "/bin/bash", ["-c", script, "\(Programs.folder)/ebbd"] + arguments,
            environment: ["STATE_DIRECTORY": folder.file("state")], folder: folder)
        try Programs.wait("the socket", for: 120) {
            FileManager.default.fileExists(atPath: folder.file("s")) || !child.isRunning
        }
        return child
    }

    private func connect(_ path: String) -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, size) }
        }
        if code == 0 { return descriptor }
        close(descriptor)
        return -1
    }

    /// Ticks of processor time that a process has taken.
    private func ticks(_ child: Child) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(child.pid)/stat", encoding: .utf8)
        let fields = text.split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 12 ? (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0) : 0
    }

    @Test(
        "At the limit of descriptors clients are refused with a reason, nothing spins, and places come back",
        arguments: [48, 64, 256])
    func descriptors(files: Int) throws {
        let folder = try TemporaryFolder()
        let daemon = try limited(files, folder, models: try Daemon.models())
        var held: [Int32] = []
        defer { for descriptor in held { close(descriptor) } }
        try Programs.wait("a daemon that answers") {
            try Programs.run("ebbctl", ["status", "--socket", folder.file("s")]).code == 0
        }
        let first = try Programs.run(
            "ebbctl", ["run", "smollm2", "--raw", "a", "-n", "1", "--socket", folder.file("s")])
        #expect(first.code == 0, "\(first.errors)")
        for _ in 0..<files + 20 { held.append(connect(folder.file("s"))) }
        try Programs.wait("a refusal", for: 120) {
            let outcome = try Programs.run("ebbctl", ["status", "--socket", folder.file("s")])
            return outcome.code != 0 && outcome.errors.contains("connections are open")
        }
        let before = try ticks(daemon)
        usleep(1_000_000)
        #expect(try ticks(daemon) - before < 30, "it spins")
        for descriptor in held { close(descriptor) }
        held = []
        try Programs.wait("a place", for: 120) {
            try Programs.run("ebbctl", ["status", "--socket", folder.file("s")]).code == 0
        }
        #expect(daemon.isRunning)
        daemon.signal(SIGTERM)
        #expect(try daemon.wait() == 0)
    }

    @Test("A second SIGTERM ends it at once, by the signal, and takes the socket away")
    func twice() throws {
        let daemon = try Daemon(["--grace", "3600"])
        let folder = try TemporaryFolder()
        let client = try Child(
            "ebbctl",
            ["run", "smollm2", "--raw", "Count:", "-n", "7000", "--temperature", "0", "--socket", daemon.socket],
            environment: [:], folder: folder)
        try Programs.wait("the request", for: 120) {
            try daemon.ctl(["status"]).output.contains("1 requests under way") || !client.isRunning
        }
        daemon.signal(SIGTERM)
        try Programs.wait("draining", for: 120) {
            try String(contentsOfFile: daemon.folder.file("err"), encoding: .utf8).contains("draining")
        }
        #expect(daemon.process.isRunning)
        // Two at the same moment are one: the second comes when it comes.
        try Programs.wait("its end") {
            daemon.signal(SIGTERM)
            return !daemon.process.isRunning
        }
        #expect(try daemon.process.wait() == 128 + SIGTERM)
        #expect(!FileManager.default.fileExists(atPath: daemon.socket))
    }

    @Test("Memory that a flood of unread answers took comes back", .disabled(if: Programs.isSanitized))
    func heap() throws {
        let daemon = try Daemon()
        #expect(try daemon.ctl(["status"]).code == 0)
        let before = try daemon.memory("RssAnon")
        let hello: [UInt8] = [0, 0, 0, 8, 0x08, 1, 0x12, 4, 0x08, 1, 0x10, 1]
        let payload = [UInt8](repeating: 7, count: 4_000_000)
        func varint(_ value: Int) -> [UInt8] {
            value < 128 ? [UInt8(value)] : [UInt8(value & 127) | 128] + varint(value >> 7)
        }
        let ping = [0x0a] + varint(payload.count) + payload
        let body = [0x08, 0x05, 0x1a] + varint(ping.count) + ping
        let frame = withUnsafeBytes(of: UInt32(body.count).bigEndian) { Array($0) } + body
        var held = (0..<12).map { _ in connect(daemon.socket) }
        for descriptor in held {
            send(descriptor, hello)
            for _ in 0..<4 { send(descriptor, frame) }
        }
        let most = try daemon.memory("RssAnon")
        for descriptor in held { close(descriptor) }
        held = []
        print("RssAnon: \(before >> 20) MiB before, \(most >> 20) MiB in the flood")
        try Programs.wait("the memory", for: 120) { try daemon.memory("RssAnon") < before + (16 << 20) }
    }

    /// What the other side takes within half a second.
    private func send(_ descriptor: Int32, _ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    descriptor, $0.baseAddress.map { $0 + sent }, $0.count - sent,
                    Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                sent += count
            } else {
                var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                guard errno == EAGAIN, poll(&waiting, 1, 500) > 0 else { return }
            }
        }
    }
}
