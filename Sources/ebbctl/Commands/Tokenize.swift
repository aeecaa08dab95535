import ArgumentParser
import Conversion
import Text

struct Tokenize: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize",
        abstract: "Turn text into a model's tokens.",
        discussion: """
            With --jsonl it is a filter: lines {"text", "add_special", "parse_special"} in, {"ids"} out.

            EXAMPLES
              ebbctl tokenize smollm2 "Hello, world!"
              ebbctl tokenize smollm2 --jsonl < texts.jsonl
            """)

    @Argument(help: "A model's name.")
    var model: String

    @Argument(help: "The text.")
    var text: String?

    @Flag(help: "Read JSON lines from standard input.")
    var jsonl = false

    @OptionGroup var folder: ModelFolder

    private struct Result: Encodable { let ids: [Int32] }

    func validate() throws {
        if (text == nil) != jsonl { throw ValidationError("Give a text, or --jsonl and texts on standard input.") }
    }

    func run() throws {
        let tokenizer = try Tokenizer(try folder.open(model).metadata)
        if let text {
            var table = Table(["id", "text"], right: [0])
            for id in tokenizer.encode(text, addSpecial: true, parseSpecial: true) {
                table.add(["\(id)", tokenizer.decode([id], special: true).debugDescription])
            }
            return try Terminal.out(table.text)
        }
        let lines = TextLines.standardInput()
        while let line = try lines.nextText() {
            try JSONOutput.line(Result(ids: try TextLine(line, of: lines).tokens(tokenizer)))
        }
    }
}
