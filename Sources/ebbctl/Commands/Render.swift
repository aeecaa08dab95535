import ArgumentParser
import EbbClient

struct Render: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render",
        abstract: "Show the prompt that a model's chat template makes of a conversation.",
        usage: "ebbctl render <model> --messages <file> [<options>]",
        discussion: """
            The conversation is a JSON file as OpenAI's API has it: [{"role": "user", "content": "Hi"}]. The prompt is \
            printed as it is; nothing is generated, and no model is loaded.

            EXAMPLES
              ebbctl render smollm2 --messages talk.json
              ebbctl render qwen3 --messages talk.json --var enable_thinking=false
              echo '[{"role": "user", "content": "Hi"}]' |
                ebbctl render smollm2 --messages - --tokens
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Option(help: ArgumentHelp("A JSON file: the messages; - is standard input.", valueName: "file"))
    var messages: String

    @Flag(help: "Print the prompt's tokens instead, by number.")
    var tokens = false

    @Flag(help: "Leave the opening of the assistant's turn away.")
    var noGenerationPrompt = false

    @Flag(help: "Print JSON: the prompt and its tokens.")
    var json = false

    @OptionGroup var template: TemplateArguments
    @OptionGroup var daemon: DaemonOptions

    func validate() throws {
        if messages == "-", template.tools == "-" {
            throw ValidationError("Only one of --messages and --tools can be standard input.")
        }
    }

    private struct Result: Encodable {
        let prompt: String
        let tokens: [Int32]
    }

    func run() async throws {
        let messages = try ConversationFile.messages(messages)
        let options = try template.options()
        let prompt = try await daemon.connect().render(
            model, chat: messages, template: options, addGenerationPrompt: !noGenerationPrompt, tokens: tokens || json)
        if json { return try JSONOutput.line(Result(prompt: prompt.text, tokens: prompt.tokens)) }
        if tokens { return try Terminal.out(prompt.tokens.map(String.init).joined(separator: " ") + "\n") }
        try Terminal.generated(prompt.text)
        // The shell's prompt begins a line of its own.
        if Terminal.isTerminal, !prompt.text.hasSuffix("\n") { try Terminal.raw("\n") }
    }
}
