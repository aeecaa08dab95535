import Foundation
import TestKit

/// Runs the built programs, as a person or systemd would.
enum Programs {
    /// Where this test's products lie.
    static let folder: String = {
        let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL
        let start = bundle ?? URL(fileURLWithPath: CommandLine.arguments[0])
        return start.deletingLastPathComponent().path
    }()

    /// Whether everything runs under AddressSanitizer, which takes memory of its own.
    static let isSanitized = ProcessInfo.processInfo.environment["ASAN_OPTIONS"] != nil

    struct Outcome {
        let code: Int32
        let output: String
        let errors: String
    }

    /// Runs a program to its end.
    static func run(
        _ program: String, _ arguments: [String], input: String = "", environment: [String: String] = [:]
    ) throws -> Outcome {
        let folder = try TemporaryFolder()
        try folder.write("in", Array(input.utf8))
        let child = try Child(program, arguments, environment: environment, folder: folder)
        return Outcome(
            code: try child.wait(), output: try String(contentsOfFile: folder.file("out"), encoding: .utf8),
            errors: try String(contentsOfFile: folder.file("err"), encoding: .utf8))
    }

    /// Waits until something holds, a moment at a time. It gives up after minutes: no speed of the machine decides.
    static func wait(_ what: String, for seconds: Int = 300, _ condition: () throws -> Bool) throws {
        for _ in 0..<seconds * 200 {
            if try condition() { return }
            usleep(5_000)
        }
        throw CocoaError(.userCancelled, userInfo: [NSLocalizedDescriptionKey: "never came: \(what)"])
    }
}

/// A program that runs: standard input, output and error are the files `in`, `out` and `err` of a folder.
final class Child {
    let pid: pid_t
    private var code: Int32?

    init(_ program: String, _ arguments: [String], environment: [String: String], folder: TemporaryFolder) throws {
        let path = program.hasPrefix("/") ? program : "\(Programs.folder)/\(program)"
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if !FileManager.default.fileExists(atPath: folder.file("in")) { try folder.write("in", []) }
        posix_spawn_file_actions_addopen(&actions, 0, folder.file("in"), O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, folder.file("out"), O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, folder.file("err"), O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        var environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        // A program ends while its event loops still hold something: that is no leak.
        if let options = environment["ASAN_OPTIONS"] { environment["ASAN_OPTIONS"] = options + ":detect_leaks=0" }
        let variables = environment.map { "\($0.key)=\($0.value)" }
        let argv = ([path] + arguments).map { strdup($0) } + [nil]
        let envp = variables.map { strdup($0) } + [nil]
        defer { for text in argv + envp { free(text) } }
        var pid = pid_t()
        let error = posix_spawn(&pid, path, &actions, nil, argv, envp)
        guard error == 0 else {
            throw CocoaError(.executableLoad, userInfo: [NSLocalizedDescriptionKey: "\(path): \(error)"])
        }
        self.pid = pid
    }

    deinit {
        guard isRunning else { return }
        kill(pid, SIGKILL)
        var status: Int32 = 0
        waitpid(pid, &status, 0)
    }

    var isRunning: Bool {
        guard code == nil else { return false }
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return true }
        // The exit code, or 128 and the signal's number, as a shell says it.
        code = status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f)
        return false
    }

    /// Waits for the end and returns the exit code.
    func wait() throws -> Int32 {
        try Programs.wait("the end of process \(pid)") { !isRunning }
        return code ?? -1
    }

    func signal(_ number: Int32) { kill(pid, number) }
}

/// A running `ebbd` with the real model, on a socket of its own; killed when it is dropped.
final class Daemon {
    let folder: TemporaryFolder
    let process: Child
    let socket: String

    /// - Parameters:
    ///   - mode: of models until a test asks for another.
    ///   - socket: its path, where it is not one of its own.
    ///   - settings: the content of its settings file.
    ///   - first: what a shell runs before it becomes the daemon.
    init(
        _ arguments: [String] = [], mode: String = "memory_low", socket: String? = nil, settings: String? = nil,
        first: String? = nil,
        environment: [String: String] = [:]
    ) throws {
        let folder = try TemporaryFolder()
        let socket = socket ?? folder.file("ebb.sock")
        var all = ["--socket", socket, "--models", try Daemon.models(), "--mode", mode]
        all += ["--state", folder.file("state"), "--no-probe"] + arguments
        if let settings {
            try folder.write("settings.json", Array(settings.utf8))
            all += ["--settings", folder.file("settings.json")]
        }
        if let first {
            let script = first + " && exec \"$0\" \"$@\""
            process = try Child(
                "/bin/sh", ["-c", script, "\(Programs.folder)/ebbd"] + all, environment: environment, folder: folder)
        } else {
            process = try Child("ebbd", all, environment: environment, folder: folder)
        }
        (self.folder, self.socket) = (folder, socket)
        let process = process
        try Programs.wait("the socket") { FileManager.default.fileExists(atPath: socket) || !process.isRunning }
    }

    static func models() throws -> String {
        _ = try RealModel.smollm2.open()
        return try RealModel.store().folder
    }

    func ctl(_ arguments: [String]) throws -> Programs.Outcome {
        try Programs.run("ebbctl", arguments + ["--socket", socket])
    }

    func signal(_ number: Int32) { process.signal(number) }

    /// A line of /proc/PID/status, in bytes.
    func memory(_ key: String) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(process.pid)/status", encoding: .utf8)
        let line = text.split(separator: "\n").first { $0.hasPrefix(key + ":") } ?? ""
        return (line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
    }
}
