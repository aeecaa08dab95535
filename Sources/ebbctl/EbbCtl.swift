import ArgumentParser
import EbbProtocol
import ModelFormat

@main
struct EbbCtl: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ebbctl",
        abstract: "Import, run and watch the models that ebbd shares.",
        discussion: """
            Talks to ebbd over its socket (--socket, $EBB_SOCKET). The commands for \
            models, quantization and measuring work on the model folder itself (--models, $EBB_MODELS) and need no daemon.

            EXIT CODES
            \(ExitStatus.table)

            EXAMPLES
              ebbctl import SmolLM2-135M-Instruct.Q4_1.gguf --name smollm2
              ebbctl run smollm2 "Why is the sky blue?"
              ebbctl status
              ebbctl mode smollm2 memory_low
              ebbctl quantize all-MiniLM-L6-v2/ -o minilm-4.ebb --weight-bits 4 --hqq
            """,
        version: EbbProtocol.release,
        groupedSubcommands: [
            CommandGroup(
                name: "Models",
                subcommands: [Import.self, Inspect.self, Verify.self, Models.self, AdapterCommand.self]),
            CommandGroup(name: "Inference", subcommands: [Run.self, Chat.self, Embed.self, Rerank.self, Render.self]),
            CommandGroup(name: "Daemon", subcommands: [Status.self, Top.self, Events.self, Load.self, Unload.self]),
            CommandGroup(name: "Governor", subcommands: [SetMode.self, Prefer.self, Pressure.self]),
            CommandGroup(
                name: "Quantization", subcommands: [Quantize.self, Calibrate.self, Evaluate.self, Advise.self]),
            CommandGroup(name: "Measuring", subcommands: [Tokenize.self, ScoreCommand.self, Bench.self]),
        ])

    static func main() async {
        StandardStreams.prepare()
        MappedFile.guardReads()
        do {
            var command = try await asyncParseAsRoot(MNNSpelling.rewritten(Array(CommandLine.arguments.dropFirst())))
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            try MappedFile.demandWhole()
            try Terminal.close()
        } catch {
            // What was read of a cut file is zeros, which other errors come of.
            do { try MappedFile.demandWhole() } catch let cause { end(with: cause) }
            end(with: error)
        }
    }
}
