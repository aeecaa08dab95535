import ArgumentParser
import Conversion
import EbbClient

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Answer a question, or continue a text, and stream it to the terminal.",
        discussion: """
            The text is put as a user's message through the model's chat template. --raw continues it as it is instead: that \
            is what base models need.

            EXAMPLES
              ebbctl run smollm2 "Why is the sky blue?"
              ebbctl run smollm2 --raw "Once upon a time" -n 64 --seed 1
              ebbctl run smollm2 "Name three planets." --json
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Argument(help: "The question or text.")
    var text: String

    @Option(help: "A system message before it.")
    var system: String?

    @Flag(help: "Continue the text as it is, without a chat template.")
    var raw = false

    @Flag(help: "Print JSON when it is done, instead of streaming.")
    var json = false

    @OptionGroup var template: TemplateArguments
    @OptionGroup var sampling: SamplingOptions
    @OptionGroup var serving: ServingOptions
    @OptionGroup var daemon: DaemonOptions

    func validate() throws {
        let asked = [("--system", system != nil)] + template.given
        if raw, let option = asked.first(where: \.1) {
            throw ValidationError("\(option.0) needs the chat template: leave --raw away.")
        }
    }

    func run() async throws {
        let ebb = try await daemon.connect()
        let generation: Generation
        if raw {
            generation = try await ebb.generate(model, prompt: text, options: serving.applied(to: sampling.options))
        } else {
            var messages = system.map { [ChatMessage(role: "system", content: $0)] } ?? []
            messages.append(ChatMessage(role: "user", content: text))
            generation = try await ebb.generate(
                model, chat: messages, template: try template.options(), options: serving.applied(to: sampling.options))
        }
        let (answer, summary) = try await Streaming.show(generation, quiet: json)
        if json { try JSONOutput.line(Streaming.Report(answer, summary)) }
    }
}

struct Chat: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chat",
        abstract: "Talk with a model, line by line.",
        discussion: """
            Each line is a message; an empty line or the end of input (Ctrl-D) ends the conversation.

            EXAMPLES
              ebbctl chat smollm2
              ebbctl chat smollm2 --system "You are brief."
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Option(help: "A system message before the conversation.")
    var system: String?

    @OptionGroup var template: TemplateArguments
    @OptionGroup var sampling: SamplingOptions
    @OptionGroup var serving: ServingOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let template = try template.options()
        let ebb = try await daemon.connect()
        var messages = system.map { [ChatMessage(role: "system", content: $0)] } ?? []
        let lines = TextLines.standardInput()
        while true {
            Terminal.error("> ", newline: false)
            guard let line = try lines.next(), !line.text.isEmpty else { return }
            messages.append(ChatMessage(role: "user", content: line.text))
            let generation = try await ebb.generate(
                model, chat: messages, template: template, options: serving.applied(to: sampling.options))
            let (answer, _) = try await Streaming.show(generation, quiet: false)
            messages.append(ChatMessage(role: "assistant", content: answer))
        }
    }
}

/// Shows a generation as it comes, and its speed when it is done.
enum Streaming {
    struct Report: Encodable {
        let text, reason: String
        let prompt_tokens, reused_tokens, generated_tokens, mode_changes: Int
        let prefill_tokens_per_second, decode_tokens_per_second: Double

        init(_ text: String, _ summary: GenerationSummary?) {
            self.text = text
            reason = summary?.reason == .length ? "length" : "stop"
            prompt_tokens = summary?.promptTokens ?? 0
            reused_tokens = summary?.reusedTokens ?? 0
            generated_tokens = summary?.generatedTokens ?? 0
            mode_changes = summary?.modeChanges ?? 0
            prefill_tokens_per_second = summary?.prefillRate ?? 0
            decode_tokens_per_second = summary?.decodeRate ?? 0
        }
    }

    static func show(_ generation: Generation, quiet: Bool) async throws -> (String, GenerationSummary?) {
        var answer = ""
        var summary: GenerationSummary?
        do {
            for try await event in generation {
                switch event {
                case .text(let piece):
                    answer += piece
                    if !quiet { try Terminal.generated(piece) }
                case .finished(let figures): summary = figures
                }
            }
        } catch {
            // The error begins a line of its own.
            if !quiet, !answer.isEmpty, Terminal.isTerminal { Terminal.error("") }
            throw error
        }
        guard !quiet, let summary else { return (answer, summary) }
        try Terminal.out("\n")
        let kept = summary.reusedTokens > 0 ? " (\(summary.reusedTokens) more were kept)" : ""
        let changes = summary.modeChanges > 0 ? ", \(summary.modeChanges) layers changed mode" : ""
        let end = summary.reason == .length ? ", cut at the length limit" : ""
        Terminal.error(
            "[prefill \(summary.promptTokens - summary.reusedTokens) tokens\(kept), \(Human.decimal(summary.prefillRate, 1)) t/s; decode "
                + "\(summary.generatedTokens) tokens, \(Human.decimal(summary.decodeRate, 1)) t/s\(changes)\(end)]")
        return (answer, summary)
    }
}
