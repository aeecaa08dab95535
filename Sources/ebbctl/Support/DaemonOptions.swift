import ArgumentParser
import EbbClient
import EbbProtocol
import Glibc

/// Where the daemon is; for commands that talk to it.
struct DaemonOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Path of the daemon's socket.", discussion: "$EBB_SOCKET, or the daemon's default.", valueName: "path"))
    var socket: String?

    func connect() async throws -> EbbClient {
        do {
            return try await EbbClient.connect(to: socket, as: "ebbctl/\(EbbProtocol.release)")
        } catch let error as ClientError where error.kind == .unreachable {
            guard access(socket ?? EbbProtocol.defaultSocket, R_OK | W_OK) != 0, errno == EACCES else { throw error }
            throw CommandError(.notPermitted, error.description)
        }
    }

    /// The daemon that has a model, or that was named; nil where ebbctl is to compute itself: for the path of a file, without
    /// a daemon, and where a daemon with another folder would keep it from a model that it can read.
    func client(for model: String) async throws -> EbbClient? {
        if socket != nil { return try await connect() }
        guard !model.hasSuffix(".ebb"), let client = try? await connect(),
            try await client.models().contains(where: { $0.name == model })
        else { return nil }
        return client
    }
}

/// When a request is served.
struct ServingOptions: ParsableArguments {
    @Option(help: "The daemon's order: interactive, normal or background.")
    var priority: RequestPriority = .normal

    @Option(
        help: ArgumentHelp("Fail rather than answer later than this (default: any time).", valueName: "seconds"))
    var deadline: Double?

    @Flag(help: "Equal requests give equal texts, whatever the governor does meanwhile; --seed says so too.")
    var reproducible = false

    @OptionGroup var adapters: AdapterOptions

    func validate() throws {
        if let deadline, !(0.001...4_000_000).contains(deadline) {
            throw ValidationError("--deadline takes 0.001 to 4000000 seconds.")
        }
    }

    func applied(to options: GenerationOptions) -> GenerationOptions {
        var options = options
        options.priority = priority
        options.deadline = deadline.map { .seconds($0) }
        options.isReproducible = reproducible
        options.adapters = adapters.list
        return options
    }
}

extension RequestPriority: ExpressibleByArgument {}

/// How tokens are chosen.
struct SamplingOptions: ParsableArguments {
    @Option(
        name: [.long, .customShort("n")], parsing: .unconditional,
        help: "Tokens to generate at most (default: until the model ends).")
    var maxTokens: Int?

    @Option(
        parsing: .unconditional,
        help: "0 takes the most probable token everywhere; higher is more varied (default: 0.8).")
    var temperature: Float?

    @Option(parsing: .unconditional, help: "Choose among the k most probable tokens; 0 for all (default: 40).")
    var topK: Int?

    @Option(
        parsing: .unconditional,
        help: "Choose among the tokens that make up this share of the probability (default: 0.95).")
    var topP: Float?

    @Option(
        parsing: .unconditional,
        help: "Drop tokens below this share of the most probable one's probability (default: 0.05).")
    var minP: Float?

    @Option(parsing: .unconditional, help: "Divide the logits of recent tokens by this; 1 is off (default: 1).")
    var repetitionPenalty: Float?

    @Option(parsing: .unconditional, help: "Equal seeds give equal texts.")
    var seed: UInt64?

    @Option(parsing: .unconditionalSingleValue, help: "A text that ends the generation; may be repeated.")
    var stop: [String] = []

    func validate() throws {
        if let maxTokens, maxTokens < 1 { throw ValidationError("--max-tokens takes 1 or more.") }
        if let topK, topK < 0 { throw ValidationError("--top-k takes 0 or more.") }
    }

    var options: GenerationOptions {
        var options = GenerationOptions()
        options.maxTokens = maxTokens
        options.temperature = temperature
        options.topK = topK
        options.topP = topP
        options.minP = minP
        options.repetitionPenalty = repetitionPenalty
        options.seed = seed
        options.stop = stop
        return options
    }
}
