import Foundation
import ModelFormat
import Quantization
import Text

/// Recipes as JSON files.
public enum RecipeFile {
    /// - Throws: ``FormatError`` that says where the file is wrong.
    public static func read(_ path: String) throws -> Recipe {
        let data = Data(try SmallFile.read(path, limit: 16 << 20))
        do {
            let recipe = try JSONDecoder().decode(Recipe.self, from: data)
            try refuseUnknownKeys(data, path)
            return recipe
        } catch let error as FormatError {
            throw error
        } catch let error as TextError {
            throw FormatError("\(path) is no readable recipe: \(error)")
        } catch let DecodingError.keyNotFound(key, context) {
            let place = context.codingPath.map(\.stringValue).joined(separator: ".")
            throw FormatError("\(path): \"\(key.stringValue)\" is missing\(place.isEmpty ? "" : " in \(place)")")
        } catch let DecodingError.dataCorrupted(context) {
            throw FormatError("\(path): \(context.debugDescription)")
        } catch {
            throw FormatError(
                "\(path) is no recipe: {\"rules\": [{\"tensors\": \"regex\", \"bits\": 4, …}]} is expected")
        }
    }

    /// A misspelt key would otherwise be a rule that says something else.
    private static func refuseUnknownKeys(_ data: Data, _ path: String) throws {
        guard let text = String(data: data, encoding: .utf8),
            case .object(let members) = try JSONValue(parsing: text, uniqueKeys: true),
            case .array(let rules)? = members["rules"]
        else { throw FormatError("\(path) is no recipe in UTF-8") }
        if let key = members.keys.first(where: { $0 != "rules" }) {
            throw FormatError("\(path): \"\(key)\" is unknown; \"rules\" is all that a recipe has")
        }
        for (index, rule) in rules.enumerated() {
            guard case .object(let members) = rule,
                let key = members.keys.first(where: { !Recipe.Rule.keys.contains($0) })
            else { continue }
            throw FormatError(
                "\(path): \"\(key)\" in rule \(index + 1) is unknown; possible are "
                    + Recipe.Rule.keys.joined(separator: ", "))
        }
    }

    public static func write(_ recipe: Recipe, to path: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            try (try encoder.encode(recipe) + [0x0a]).write(to: URL(fileURLWithPath: path), options: .atomic)
        } catch {
            throw FormatError("cannot write \(path): \(error.localizedDescription)")
        }
    }

    /// The recipe inside a quantized file; nil where there is none.
    public static func recipe(of file: EbbFile) -> Recipe? {
        file.metadata.string("ebb.quantization.recipe").flatMap {
            try? JSONDecoder().decode(Recipe.self, from: Data($0.utf8))
        }
    }
}

extension ModelSource {
    /// Whether any of its matrices is quantized already.
    public var isQuantized: Bool {
        tensors.contains { if case .quantized = $0.encoding { !$0.isVector } else { false } }
    }
}
