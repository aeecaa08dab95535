import ArgumentParser
import CEbbSystem
import EbbProtocol
import Engine
import Glibc
import Governor
import Logging
import ModelFormat
import Service
import ServiceLifecycle
import UnixSignals

@main
enum Program {
    static func main() async {
        // Before there is another thread: an arena of malloc that exists stays.
        ebb_heap_bound()
        ebb_tasks_sleep_well()
        await EbbDaemon.main()
    }
}

struct EbbDaemon: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ebbd",
        abstract: "Share quantized models between all applications of this device.",
        usage: "ebbd [<options>]",
        discussion: """
            Serves the models of a folder over a Unix socket, and takes less memory as memory gets scarce. Under systemd it \
            announces readiness, answers the watchdog and takes its socket from ebbd.socket. SIGTERM lets running requests \
            end within --grace; SIGHUP reads the settings file again.

            EXAMPLES
              ebbd --socket /tmp/ebb.sock --models ./models
              ebbd --mode memory_low --threads 2
              ebbd --settings /etc/ebb/ebbd.json
            """,
        version: EbbProtocol.release)

    @Option(
        help: ArgumentHelp(
            """
            Path of the socket (default: $EBB_SOCKET; else /run/ebb/ebb.sock for root and where that exists; else \
            $XDG_RUNTIME_DIR/ebb/ebb.sock).
            """, valueName: "path"))
    var socket: String?

    @Option(
        help: ArgumentHelp(
            """
            Folder of models (default: $EBB_MODELS; else /var/lib/ebb/models for root; else $XDG_DATA_HOME/ebb/models or \
            ~/.local/share/ebb/models).
            """, valueName: "dir"))
    var models: String?

    @Option(
        help: ArgumentHelp(
            "Threads to compute with (default: one for each performance core it may use).", valueName: "count"))
    var threads: Int?

    @Option(help: "Mode of models until someone asks for another.")
    var mode: DaemonMode = .auto

    @Option(
        help: ArgumentHelp(
            "Tokens of a sequence at most (default: what the model was trained for).", valueName: "tokens"))
    var context: Int?

    @Option(
        help: ArgumentHelp(
            "What dequantized weights are expanded to; bf16 is faster where the CPU has it, and less exact.",
            valueName: "type"))
    var precision: ExpandedPrecision = .f16

    @Option(
        help: ArgumentHelp(
            "Seconds that running requests get when the daemon is told to stop.", valueName: "seconds"))
    var grace = 30

    @Option(
        help: ArgumentHelp(
            "Group that may load, unload and set modes, beside root and the daemon's user.", valueName: "group"))
    var adminGroup: String?

    @Option(
        help: ArgumentHelp(
            "JSON file with limits of memory and of clients; memory's are read again at SIGHUP.", valueName: "file"))
    var settings: String?

    @Option(
        help: ArgumentHelp(
            """
            Folder for what is remembered over restarts (default: $STATE_DIRECTORY; else /var/lib/ebb for root; else \
            $XDG_STATE_HOME/ebb or ~/.local/state/ebb).
            """, valueName: "dir"))
    var state: String?

    @Option(
        help: ArgumentHelp(
            "MiB of KV cache that a model may keep for conversations that may go on.", valueName: "MiB"))
    var prefixCache = 64

    @Flag(inversion: .prefixedNo, help: "Measure both modes of a model after its first load.")
    var probe = true

    @Option(help: ArgumentHelp("Load this model at the start; may be repeated.", valueName: "model"))
    var load: [String] = []

    @Option(help: ArgumentHelp("The least that is logged.", valueName: "level"))
    var logLevel: Logger.Level = .info

    func validate() throws {
        if let threads, !(1...256).contains(threads) { throw ValidationError("--threads takes 1 to 256.") }
        if let context, context < 32 { throw ValidationError("--context takes at least 32 tokens.") }
        guard (0...1_048_576).contains(prefixCache) else { throw ValidationError("--prefix-cache takes 0 to 1048576.") }
        guard (0...86_400).contains(grace) else { throw ValidationError("--grace takes 0 to 86400 seconds.") }
    }

    /// systemd names the folder of StateDirectory=, and separates several by colons.
    private static var defaultState: String? {
        func variable(_ name: String) -> String? {
            getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
        }
        if let folders = variable("STATE_DIRECTORY") { return folders.split(separator: ":").first.map(String.init) }
        if geteuid() == 0 { return "/var/lib/ebb" }
        if let folder = variable("XDG_STATE_HOME") { return folder + "/ebb" }
        return variable("HOME").map { $0 + "/.local/state/ebb" }
    }

    /// Below it threads cannot start, or the runtime ends the process.
    private static let leastAddressSpace = 768 << 20

    /// - Throws: ``ServiceError`` where a limit leaves too little for the program and its threads.
    private static func demandAddressSpace() throws {
        guard let limit = ProcessLimits.now().addressSpace, limit < leastAddressSpace else { return }
        throw ServiceError(
            .internal,
            "the limit of address space is \(limit >> 20) MiB; ebbd needs at least \(leastAddressSpace >> 20) MiB, and as "
                + "much as its models on top (ulimit -v, or LimitAS= of the service)")
    }

    func run() async throws {
        // A file that may not grow (RLIMIT_FSIZE) is an error of who writes it, as on a full disk.
        signal(SIGXFSZ, SIG_IGN)
        Descriptors.raiseLimit()
        try Descriptors.demandEnough()
        try Self.demandAddressSpace()
        let underSystemd = getenv("JOURNAL_STREAM") != nil
        LoggingSystem.bootstrap { _ -> any LogHandler in
            underSystemd ? JournalLogHandler() : StandardErrorLogHandler()
        }
        var logger = Logger(label: "ebbd")
        logger.logLevel = logLevel
        var configuration = ServiceConfiguration(
            models: models ?? ModelStore.defaultFolder, socket: socket ?? EbbProtocol.defaultSocket,
            threads: threads ?? WorkerPool.defaultThreads, kernels: try Kernels.fromEnvironment())
        configuration.inheritedSocket = try Systemd.inheritedSocket()
        configuration.defaultWish = mode.wish
        configuration.model = ModelOptions(contextLimit: context, precision: precision)
        configuration.adminGroup = adminGroup
        configuration.grace = .seconds(grace)
        configuration.state = state ?? Self.defaultState
        configuration.prefixBytes = prefixCache << 20
        configuration.probesModes = probe
        if access(configuration.models, R_OK | X_OK) != 0 {
            logger.warning(
                "no model can be served yet: \(FormatError.system("cannot read \(configuration.models)")); ebbctl import makes models, --models or $EBB_MODELS names another folder"
            )
        }
        ModelStore(folder: configuration.models).removeLeftovers()
        if let settings {
            let read = try Settings(path: settings)
            (configuration.policy, configuration.limits) = (read.policy, read.limits)
            configuration.templateVariables = read.templateVariables
        }
        configuration.levelDwell = configuration.policy.dwell
        let service = try EbbService(configuration, logger: logger)
        let daemon = DaemonService(service: service, preload: load, settings: settings, logger: logger)
        let group = ServiceGroup(
            configuration: .init(
                services: [.init(service: daemon, successTerminationBehavior: .gracefullyShutdownGroup)],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }
}

enum DaemonMode: String, ExpressibleByArgument, CaseIterable {
    case auto, dequantized
    case memoryLow = "memory_low"

    var wish: ModelState.Wish {
        switch self {
        case .auto: .auto
        case .dequantized: .dequantized
        case .memoryLow: .memoryLow
        }
    }
}

extension ExpandedPrecision: ExpressibleByArgument {}
extension Logger.Level: @retroactive ExpressibleByArgument {}
