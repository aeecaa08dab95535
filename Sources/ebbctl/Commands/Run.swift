import ArgumentParser
import Conversion
import EbbClient

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Answer a question, or continue a text, and stream it to the terminal.",
        discussion: """
            The text is put as a user's message through the model's chat template. --raw continues it as it is instead: that \
            is what base models need. What a model thinks before it answers goes to standard error, dimmed in a terminal.

            EXAMPLES
              ebbctl run smollm2 "Why is the sky blue?"
              ebbctl run smollm2 "Summarize: ..." --adapter summary --adapter formal=0.5
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

    @Flag(help: "Do not show what the model thinks before it answers.")
    var hideThinking = false

    @Flag(help: "Print JSON when it is done, instead of streaming: thinking and calls of tools apart.")
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
            var options = serving.applied(to: sampling.options)
            options.separatesChannels = true
            generation = try await ebb.generate(
                model, chat: messages, template: try template.options(), options: options)
        }
        let answer = try await AnswerView(shows: !json, showsThinking: !hideThinking).show(generation)
        if json { try JSONOutput.line(AnswerView.Report(answer, hidesThinking: hideThinking)) }
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

    @Flag(help: "Do not show what the model thinks before it answers.")
    var hideThinking = false

    @OptionGroup var template: TemplateArguments
    @OptionGroup var sampling: SamplingOptions
    @OptionGroup var serving: ServingOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let template = try template.options()
        var options = serving.applied(to: sampling.options)
        options.separatesChannels = true
        let ebb = try await daemon.connect()
        var messages = system.map { [ChatMessage(role: "system", content: $0)] } ?? []
        let lines = TextLines.standardInput()
        while true {
            Terminal.error("> ", newline: false)
            guard let line = try lines.next(), !line.text.isEmpty else { return }
            messages.append(ChatMessage(role: "user", content: line.text))
            let generation = try await ebb.generate(model, chat: messages, template: template, options: options)
            let answer = try await AnswerView(shows: true, showsThinking: !hideThinking).show(generation)
            messages.append(answer.message)
        }
    }
}
