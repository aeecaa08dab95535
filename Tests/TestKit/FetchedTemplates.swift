import Foundation

/// llama.cpp's chat templates, and what Python's jinja2 makes of them: fetched and made by `make test`
/// (scripts/fetch-templates) into the cache.
public enum FetchedTemplates {
    /// The sources by their names.
    public static func sources() throws -> [String: String] {
        let path = FetchedFiles.llamaModels + "/templates"
        var found: [String: String] = [:]
        for file in try FileManager.default.contentsOfDirectory(atPath: path) where file.hasSuffix(".jinja") {
            found[String(file.dropLast(6))] = try Reference.text(URL(fileURLWithPath: "\(path)/\(file)"))
        }
        return found
    }

    /// One of `conversations.json`, `expected.jsonl` and `language.jsonl`.
    public static func text(_ name: String) throws -> String {
        try Reference.text(URL(fileURLWithPath: "\(FetchedFiles.cache)/templates/\(name)"))
    }
}
