import Foundation
import Glibc

/// A JSON file of a model folder, read once.
struct FolderFile {
    let path: String
    private let bytes: Data

    /// Larger ones are no configuration; tokenizers have some ten MB.
    private static let limit = 256 << 20

    /// - Throws: ``FormatError`` where it is missing or cannot be read.
    init(_ folder: String, _ name: String) throws {
        path = folder + "/" + name
        guard access(path, F_OK) == 0 || errno != ENOENT else {
            throw FormatError("\(path) is missing: a model folder needs config.json, model.safetensors, tokenizer.json")
        }
        bytes = Data(try SmallFile.read(path, limit: Self.limit))
    }

    /// nil where there is no such file.
    init?(optional folder: String, _ name: String) throws {
        guard access(folder + "/" + name, F_OK) == 0 || errno != ENOENT else { return nil }
        try self.init(folder, name)
    }

    /// A file of text; nil where there is none.
    static func text(optional folder: String, _ name: String, limit: Int) throws -> String? {
        guard access(folder + "/" + name, F_OK) == 0 || errno != ENOENT else { return nil }
        let bytes = try SmallFile.read(folder + "/" + name, limit: limit)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw FormatError("\(folder)/\(name) is no UTF-8 text")
        }
        return text
    }

    /// A JSON object whose every key is looked at.
    /// - Throws: ``FormatError``.
    func members() throws -> JSONObject {
        let node: JSONNode
        do { node = try JSONReader.read(Array(bytes), uniqueKeys: true, depthLimit: 64) } catch {
            throw FormatError("\(path) is \(error.description)")
        }
        if let members = node.object { return members }
        throw FormatError("\(path) is not the JSON that is expected: it is no object")
    }

    /// - Throws: ``FormatError``.
    func decode<T: Decodable>(_ type: T.Type) throws -> T {
        do {
            return try JSONDecoder().decode(type, from: bytes)
        } catch let error as DecodingError {
            // What is no JSON at all is said with its place.
            do { let _: JSONNode = try JSONReader.read(Array(bytes), uniqueKeys: false, depthLimit: 64) } catch {
                throw FormatError("\(path) is \(error.description)")
            }
            throw FormatError("\(path) is not the JSON that is expected: \(error.sentence)")
        }
    }
}

/// What is known of the keys of a JSON object. Any other key is a setting that would be left out, and is refused.
struct KnownJSON {
    /// Keys that are read.
    let used: Set<String>
    /// Keys that no result depends on.
    let harmless: Set<String>
    /// Keys that change nothing with these values, and are refused with others.
    let neutral: [String: [Value]]

    enum Value: Hashable, CustomStringConvertible {
        case null, bool(Bool), number(Double), text(String), empty, other

        init(_ node: JSONNode) {
            switch node {
            case .null: self = .null
            case .bool(let flag): self = .bool(flag)
            case .int, .double: self = .number(node.number ?? 0)
            case .string(let text): self = .text(text)
            case .array(let items): self = items.isEmpty ? .empty : .other
            case .object(let members): self = members.count == 0 ? .empty : .other
            }
        }

        var description: String {
            switch self {
            case .null: "null"
            case .bool(let flag): "\(flag)"
            case .number(let number): Int(exactly: number).map { "\($0)" } ?? "\(number)"
            case .text(let text): "\"\(text.prefix(80))\""
            case .empty: "empty"
            case .other: "a list or an object"
            }
        }
    }

    /// - Throws: ``FormatError`` that names the first key that is not known, or has a value that is not supported.
    func check(_ file: FolderFile) throws { try check(try file.members(), of: file.path) }

    /// - Parameter what: the object, for messages.
    func check(_ object: JSONObject, of what: String) throws {
        for (key, node) in object.sorted(by: { $0.key < $1.key })
        where !used.contains(key) && !harmless.contains(key) {
            let value = Value(node)
            guard let allowed = neutral[key] else {
                throw FormatError(
                    "\(what): Ebb does not know \"\(key)\" (\(value)), and would compute as if it were not there")
            }
            guard allowed.contains(value) else {
                let known = allowed.map(\.description).joined(separator: " or ")
                throw FormatError("\(what): \"\(key)\" is \(value), which is not supported (\(known) is)")
            }
        }
    }
}
