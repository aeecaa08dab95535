import Foundation
import Testing
import TestKit

@Suite("What breaks around a daemon", .serialized)
struct FaultTests {
    /// A folder with a model of its own, `m`, that a test may harm.
    private func models() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        try FileManager.default.copyItem(atPath: "\(try Daemon.models())/smollm2.ebb", toPath: folder.file("m.ebb"))
        return folder
    }

    private func stream(_ daemon: Daemon, _ model: String, tokens: Int, in folder: TemporaryFolder) throws -> Child {
        try Child(
            "ebbctl",
            [
                "run", model, "--raw", "The sea", "-n", "\(tokens)", "--temperature", "0", "--json", "--socket",
                daemon.socket,
            ], environment: [:], folder: folder)
    }

    private func report(_ folder: TemporaryFolder) throws -> [String: Any] {
        let output = try Data(contentsOf: URL(fileURLWithPath: folder.file("out")))
        return try JSONSerialization.jsonObject(with: output) as? [String: Any] ?? [:]
    }

    private func names(_ folder: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    }

    private func waitForRequest(_ daemon: Daemon, _ client: Child) throws {
        try Programs.wait("the request") {
            try daemon.ctl(["status"]).output.contains("1 requests under way") || !client.isRunning
        }
    }

    @Test("An import that is killed leaves nothing that is taken for a model, and the next one cleans up behind it")
    func killedImport() throws {
        let folder = try TemporaryFolder()
        let source = try RealModel.smollm2.path
        var killed = false
        for _ in 0..<20 where !killed {
            let child = try Child(
                "ebbctl", ["import", source, "--name", "m", "--force", "--models", folder.path], environment: [:],
                folder: try TemporaryFolder())
            try Programs.wait("a file") { !folder.names.isEmpty || !child.isRunning }
            child.signal(SIGKILL)
            // An import that was done before is done again.
            killed = try child.wait() != 0
        }
        #expect(killed && !folder.names.isEmpty)
        #expect(!folder.names.contains("m.ebb"))
        let list = try Programs.run("ebbctl", ["verify", "m", "--models", folder.path])
        #expect(list.code != 0)
        let again = try Programs.run("ebbctl", ["import", source, "--name", "m", "--models", folder.path])
        #expect(again.code == 0, "\(again.errors)")
        #expect(folder.names == ["m.ebb"])
        #expect(try Programs.run("ebbctl", ["verify", "m", "--models", folder.path]).code == 0)
    }

    @Test("A daemon that is killed in a load or a stream leaves its client an error, and the next one serves")
    func killedDaemon() throws {
        let folder = try TemporaryFolder()
        let socket = folder.file("s")
        func daemon() throws -> Daemon { try Daemon(["--state", folder.file("state")], socket: socket) }
        func ctl(_ arguments: [String]) throws -> Programs.Outcome {
            try Programs.run("ebbctl", arguments + ["--socket", socket])
        }
        for inStream in [false, true] {
            let first = try daemon()
            // The one that was killed has left its socket's file.
            try Programs.wait("a daemon that answers") { try ctl(["status"]).code == 0 }
            let output = try TemporaryFolder()
            let arguments =
                inStream ? ["run", "smollm2", "--raw", "The sea", "-n", "100000"] : ["load", "smollm2"]
            let client = try Child(
                "ebbctl", arguments + ["--socket", socket], environment: [:], folder: output)
            if inStream {
                try Programs.wait("some text") { try !Data(contentsOf: .init(filePath: output.file("out"))).isEmpty }
            }
            first.signal(SIGKILL)
            #expect(try first.process.wait() == 128 + SIGKILL)
            // A load may have been done before.
            let code = try client.wait()
            #expect(code != 0 || !inStream)
            let second = try daemon()
            try Programs.wait("a daemon that answers") { try ctl(["status"]).code == 0 }
            let answer = try ctl(["run", "smollm2", "--raw", "The sea", "-n", "4"])
            #expect(answer.code == 0, "\(answer.errors)")
            second.signal(SIGKILL)
            _ = try second.process.wait()
        }
    }

    @Test("A state folder that cannot be written costs what is remembered, nothing else")
    func unwritableState() throws {
        // Root may write everywhere, but not below a device.
        let daemon = try Daemon(["--state", "/dev/null/state"])
        #expect(try daemon.ctl(["run", "smollm2", "--raw", "The sea", "-n", "4"]).code == 0)
        let kept = try daemon.ctl(["prefer", "smollm2", "speed"])
        #expect(kept.code != 0 && kept.errors.contains("/dev/null/state"), "\(kept.code) \(kept.errors)")
        #expect(try daemon.ctl(["run", "smollm2", "--raw", "The sea", "-n", "4"]).code == 0)
    }

    @Test("A model that is imported anew under a stream lets it end; the next request has the new one")
    func replacedModel() throws {
        let models = try models()
        let daemon = try Daemon(["--models", models.path])
        let output = try TemporaryFolder()
        let client = try stream(daemon, "m", tokens: 200, in: output)
        try waitForRequest(daemon, client)
        let imported = try Programs.run(
            "ebbctl", ["import", try RealModel.smollm2.path, "--name", "m", "--force", "--models", models.path])
        #expect(imported.code == 0, "\(imported.errors)")
        #expect(try client.wait() == 0)
        #expect(try report(output)["generated_tokens"] as? Int == 200)
        let answer = try daemon.ctl(["run", "m", "--raw", "The sea", "-n", "4"])
        #expect(answer.code == 0, "\(answer.errors)")
        #expect(models.names == ["m.ebb"])
    }

    @Test("A model file that is only touched fails nothing")
    func touchedModel() throws {
        let models = try models()
        let daemon = try Daemon(["--models", models.path])
        let output = try TemporaryFolder()
        let client = try stream(daemon, "m", tokens: 200, in: output)
        try waitForRequest(daemon, client)
        while client.isRunning {
            utimes(models.file("m.ebb"), nil)
            usleep(20_000)
        }
        #expect(try client.wait() == 0)
        #expect(try report(output)["generated_tokens"] as? Int == 200)
    }

    @Test("A daemon that is killed while it parks, or after, leaves nothing that the next one reads; that one serves")
    func killedInParking() throws {
        let folder = try TemporaryFolder()
        let (socket, parked) = (folder.file("s"), folder.file("state/parked"))
        func daemon() throws -> Daemon {
            let daemon = try Daemon(
                ["--state", folder.file("state")], socket: socket, settings: #"{"idleSeconds": 1}"#)
            try Programs.wait("a daemon that answers") { try daemon.ctl(["status"]).code == 0 }
            return daemon
        }
        func answer(_ daemon: Daemon) throws -> String {
            let prompt = String(repeating: "The sea and the stones. ", count: 60)
            let outcome = try daemon.ctl(["run", "smollm2", "--raw", prompt, "-n", "8", "--temperature", "0"])
            #expect(outcome.code == 0, "\(outcome.errors)")
            return outcome.output
        }
        var answers: Set<String> = []
        // Its first moment, and ever later ones.
        for delay in [0, 1_000, 10_000, 100_000] as [UInt32] {
            let daemon = try daemon()
            #expect(!FileManager.default.fileExists(atPath: parked))
            answers.insert(try answer(daemon))
            try Programs.wait("a file of parked conversations") {
                !names(parked).isEmpty
            }
            usleep(delay)
            daemon.signal(SIGKILL)
            #expect(try daemon.process.wait() == 128 + SIGKILL)
        }
        answers.insert(try answer(try daemon()))
        #expect(answers.count == 1)
    }

    @Test("On a disk that takes nothing more all requests are answered; what cannot be kept is said by name")
    func fullDisk() throws {
        // A limit on files stands for the disk: without root it cannot be filled.
        let daemon = try Daemon(settings: #"{"idleSeconds": 1}"#, first: "ulimit -f 0")
        let prompt = String(repeating: "The sea and the stones. ", count: 60)
        func answer() throws -> Programs.Outcome {
            try daemon.ctl(["run", "smollm2", "--raw", prompt, "-n", "8", "--temperature", "0"])
        }
        let first = try answer()
        #expect(first.code == 0, "\(first.errors)")
        let kept = try daemon.ctl(["prefer", "smollm2", "speed"])
        #expect(kept.code != 0 && kept.errors.contains("cannot keep settings"), "\(kept.code) \(kept.errors)")
        try Programs.wait("parking") { try daemon.ctl(["status"]).output.contains("parked") }
        #expect(try answer().output == first.output)
        #expect(names(daemon.folder.file("state/parked")).isEmpty)
    }
}
