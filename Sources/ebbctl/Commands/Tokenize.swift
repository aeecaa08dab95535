import ArgumentParser
import Conversion
import Text

struct Tokenize: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize",
        abstract: "Turn text into a model's tokens.",
        discussion: """
            With --jsonl it is a filter: lines {"text", "add_special", "parse_special"} in, {"ids"} out. With --measure as \
            well, it reads all texts first and prints, as JSON, what encoding and decoding them took.

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

    @Flag(help: "With --jsonl: measure the time that all texts take.")
    var measure = false

    @OptionGroup var folder: ModelFolder

    private struct Result: Encodable { let ids: [Int32] }

    private struct Measurement: Encodable {
        let bytes, tokens: Int
        let encodeSeconds, decodeSeconds: Double

        enum CodingKeys: String, CodingKey {
            case bytes, tokens
            case encodeSeconds = "encode_seconds"
            case decodeSeconds = "decode_seconds"
        }
    }

    func validate() throws {
        if measure, !jsonl { throw ValidationError("--measure goes with --jsonl.") }
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
        if measure { return try JSONOutput.line(try measurement(tokenizer, lines)) }
        while let line = try lines.nextText() {
            try JSONOutput.line(Result(ids: try TextLine(line, of: lines).tokens(tokenizer)))
        }
    }

    private func measurement(_ tokenizer: Tokenizer, _ lines: TextLines) throws -> Measurement {
        var texts: [TextLine] = []
        while let line = try lines.nextText() { texts.append(try TextLine(line, of: lines)) }
        let start = ContinuousClock.now
        let ids = texts.map { $0.tokens(tokenizer) }
        let encoded = ContinuousClock.now
        var bytes = 0
        for ids in ids {
            var detokenizer = IncrementalDetokenizer(tokenizer, isWholeText: true)
            for id in ids { bytes += detokenizer.append(id).utf8.count }
            bytes += detokenizer.finish().utf8.count
        }
        return Measurement(
            bytes: bytes, tokens: ids.reduce(0) { $0 + $1.count }, encodeSeconds: (encoded - start).seconds,
            decodeSeconds: (ContinuousClock.now - encoded).seconds)
    }
}
