import Foundation
import ModelFormat
import Quantization

/// Recipes as JSON files.
public enum RecipeFile {
    /// - Throws: ``FormatError`` that says where the file is wrong.
    public static func read(_ path: String) throws -> Recipe {
        let data = Data(try SmallFile.read(path, limit: 16 << 20))
        do {
            return try JSONDecoder().decode(Recipe.self, from: data)
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
