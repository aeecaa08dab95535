import ArgumentParser
import Conversion
import Engine
import Glibc
import ModelFormat
import Text

struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Copy a model into the model folder, in Ebb's layout.",
        usage: "ebbctl import <source> [--name <name>] [<options>]",
        discussion: """
            Takes a GGUF file (of a model in several, any of them), or a Hugging Face folder of a decoder or an encoder \
            (config.json, safetensors in one file or in shards, tokenizer.json), or an .ebb file, as ebbctl quantize makes it. \
            No value changes: what Ebb computes with is what the file holds; a setting or a tensor that it would have to \
            leave out is refused by name, and so are weights that are NaN or infinite. The result is written under a \
            temporary name and renamed, so a failed import leaves nothing behind. To make a model smaller see ebbctl quantize.

            EXAMPLES
              ebbctl import SmolLM2-135M-Instruct.Q4_1.gguf --name smollm2
              ebbctl import all-MiniLM-L6-v2/ --name minilm
              ebbctl import large-00001-of-00003.gguf --name large
              ebbctl import smollm2-4.ebb --name smollm2-4
              ebbctl import model.gguf --models /srv/models --json
              ebbctl import base.gguf --name base --chat-template chatml
            """)

    @Argument(help: "A GGUF file, version 2 or 3, an .ebb file, or a folder.", completion: .file(extensions: ["gguf"]))
    var source: String

    @Option(help: "Name of the model (default: the file's name).")
    var name: String?

    @Option(
        help: ArgumentHelp(
            "A chat template to use instead of the model's own: a file of Jinja, or chatml.",
            valueName: "file"))
    var chatTemplate: String?

    @Flag(help: "Replace a model of that name.")
    var force = false

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var folder: ModelFolder

    private struct Result: Encodable {
        let name, path, architecture: String
        let bytes, sourceBytes, tensors: Int
        let seconds: Double
    }

    func run() throws {
        let name = name ?? Self.defaultName(source)
        let store = folder.store
        let destination = try store.path(of: name)
        let template = try chatTemplate.map(Self.template)
        let source = try ModelSources.open(source)
        if let gguf = source as? GGUFSource { _ = try Self.check(gguf.file) }
        let hasTemplate = template != nil
        if !force, access(destination, F_OK) == 0 {
            throw CommandError(
                .badInput, "\(destination) exists already; --force replaces it, --name gives another name")
        }
        try store.create()
        store.removeLeftovers()
        WorkFolder.removeLeftovers()
        let start = ContinuousClock.now
        var progress = ProgressLine("importing \(name)")
        var problem: String?
        try ModelImport(source, chatTemplate: template).write(
            to: destination, checking: { problem = try Self.check($0, hasTemplate: hasTemplate) }
        ) {
            progress.update($0)
        }
        progress.clear()
        if template != nil { try Self.warn(of: try EbbFile(path: destination)) }
        for notice in source.notices { Terminal.error("notice: \(notice)") }
        if let problem {
            Terminal.error("notice: \(problem). \(name) continues prompts (ebbctl run --raw), but cannot chat.")
        }
        let seconds = (ContinuousClock.now - start).seconds
        let imported = try EbbFile(path: destination)
        let result = Result(
            name: name, path: destination, architecture: imported.metadata.string("general.architecture") ?? "",
            bytes: imported.byteCount, sourceBytes: source.byteCount, tensors: imported.names.count, seconds: seconds)
        if json { return try JSONOutput.line(result) }
        let ratio = Human.decimal(Double(result.bytes) / Double(result.sourceBytes), 3)
        try Terminal.out(
            """
            imported \(name): \(result.tensors) tensors, \(Human.bytes(result.bytes)) (\(ratio) x the source), \
            \(Human.decimal(seconds, 1)) s
            next: ebbctl \(Self.firstUse(imported, canChat: problem == nil)) \(name) \(Self.firstTexts(imported))

            """)
    }

    /// Bytes of a template at most.
    private static let templateBytes = 1 << 20

    /// - Throws: an error for a file that cannot be read, or is no template that Ebb can use.
    private static func template(_ file: String) throws -> String {
        if file == "chatml" { return ChatTemplate.chatML }
        let text = try UserFile.text(file, limit: templateBytes)
        do { _ = try ChatTemplate(text) } catch { throw CommandError(.badInput, "\(file): \(error)") }
        return text
    }

    /// Says where a template ends turns with what does not end the model's answers: it would go on with the next turn.
    private static func warn(of file: EbbFile) throws {
        let tokenizer = try Tokenizer(file.metadata)
        guard let template = ChatTemplate.read(file.metadata, tokenizer: tokenizer).template,
            let end = template.turnEnd, !end.isEmpty
        else { return }
        let tokens = tokenizer.encode(end, addSpecial: false, parseSpecial: true)
        guard !tokens.contains(where: tokenizer.endOfGeneration.contains) else { return }
        Terminal.error(
            "notice: the template ends turns with \"\(Human.cut(end, 40))\", which does not end the model's answers: "
                + "it may write turns of its own (ebbctl run --stop)")
    }

    private static func firstTexts(_ file: EbbFile) -> String {
        let question = #""Why is the sky blue?""#
        return EncoderModel.isReranker(file) ? "\(question) \"Air scatters blue light.\"" : question
    }

    private static func firstUse(_ file: EbbFile, canChat: Bool) -> String {
        guard EncoderModel.isEncoder(file) else { return canChat ? "run" : "run --raw" }
        return EncoderModel.isReranker(file) ? "rerank" : "embed"
    }

    /// Everything but the values: the architecture, its tensors, the tokenizer, the chat template.
    /// - Returns: why the template cannot be used, which is no reason to refuse the model.
    private static func check(_ description: some ModelDescription, hasTemplate: Bool = false) throws -> String? {
        if hasTemplate, EncoderModel.isEncoder(description.metadata) {
            throw CommandError(.badInput, "an encoder has no conversations: leave --chat-template away")
        }
        try ModelFamilies.check(description)
        let tokenizer = try Tokenizer(description.metadata)
        return ChatTemplate.read(description.metadata, tokenizer: tokenizer).problem
    }

    /// `dir/SmolLM2.Q4_1.gguf` becomes `SmolLM2.Q4_1`.
    static func defaultName(_ file: String) -> String {
        let last = String(file.split(separator: "/").last ?? "")
        let name = [".gguf", ".ebb"].first { last.hasSuffix($0) }.map { String(last.dropLast($0.count)) } ?? last
        // A model's name, where this is one of its parts.
        return name.replacing(/-\d{5}-of-\d{5}$/, with: "")
    }
}
