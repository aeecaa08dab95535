import Foundation

/// Reads the reference files, which are copied into the tests unchanged.
public enum Reference {
    /// The JSON values of the lines of a file.
    public static func lines<T: Decodable>(_ type: T.Type, _ url: URL?) throws -> [T] {
        try text(url).split(separator: "\n").map { try JSONDecoder().decode(type, from: Data($0.utf8)) }
    }

    public static func text(_ url: URL?) throws -> String {
        guard let url else { throw CocoaError(.fileNoSuchFile) }
        return try String(contentsOf: url, encoding: .utf8)
    }
}
