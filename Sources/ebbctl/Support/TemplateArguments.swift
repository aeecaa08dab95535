import ArgumentParser
import EbbClient
import OrderedCollections
import Text

/// What a model's chat template is told.
struct TemplateArguments: ParsableArguments {
    @Option(
        name: .customLong("var"), parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "A variable of the chat template (enable_thinking=false); the value is JSON, or else a text. May be repeated.",
            valueName: "name=value"))
    var variables: [String] = []

    @Option(help: ArgumentHelp("A JSON file: the tools that may be called.", valueName: "file"))
    var tools: String?

    @Flag(help: "Special tokens written in messages count as such; else they are text.")
    var trustText = false

    func validate() throws { _ = try variablesJSON() }

    /// The options by their names, with whether each was given.
    var given: [(String, Bool)] {
        [("--var", !variables.isEmpty), ("--tools", tools != nil), ("--trust-text", trustText)]
    }

    func options() throws -> TemplateOptions {
        var options = TemplateOptions()
        options.toolsJSON = try tools.map(ConversationFile.tools) ?? ""
        options.variablesJSON = try variablesJSON()
        options.trustsText = trustText
        return options
    }

    private func variablesJSON() throws -> String {
        var members: OrderedDictionary<String, JSONValue> = [:]
        for variable in variables {
            let parts = variable.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, !parts[0].isEmpty else {
                throw ValidationError("--var takes name=value: enable_thinking=false.")
            }
            guard !ChatTemplate.ownVariables.contains(parts[0]) else {
                throw ValidationError(
                    "--var cannot set \(parts[0]): the conversation, other options or the model say that.")
            }
            members[parts[0]] = (try? JSONValue(parsing: parts[1])) ?? .string(parts[1])
        }
        return members.isEmpty ? "" : JSONValue.object(members).text
    }
}
