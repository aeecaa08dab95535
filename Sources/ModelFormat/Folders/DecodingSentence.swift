import Foundation

extension DecodingError {
    /// What is wrong with a JSON file, and where: `[0].type is missing`, `it is no list`.
    var sentence: String {
        switch self {
        case .keyNotFound(let key, let context): "\(Self.place(context.codingPath + [key])) is missing"
        case .typeMismatch(let type, let context): "\(Self.place(context.codingPath)) is not \(Self.kind(type))"
        case .valueNotFound(let type, let context): "\(Self.place(context.codingPath)) is null, not \(Self.kind(type))"
        case .dataCorrupted(let context): "\(Self.place(context.codingPath)) has a value that is impossible"
        @unknown default: "it cannot be read"
        }
    }

    private static func place(_ keys: [any CodingKey]) -> String {
        guard !keys.isEmpty else { return "it" }
        let parts = keys.map { key in key.intValue.map { "[\($0)]" } ?? ".\(key.stringValue.prefix(80))" }.joined()
        return parts.hasPrefix(".") ? String(parts.dropFirst()) : parts
    }

    private static func kind(_ type: any Any.Type) -> String {
        let name = "\(type)"
        return switch type {
        case is String.Type: "text"
        case is Bool.Type: "true or false"
        case is any FixedWidthInteger.Type: "a whole number"
        case _ where name.hasPrefix("Dictionary"): "an object"
        case _ where name.hasPrefix("Array"): "a list"
        default: "what stands there"
        }
    }
}
