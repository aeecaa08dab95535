import Foundation

/// What transformers makes of a small random decoder (``TinyDecoder``): Tests/Families/README.md says what the files hold.
public struct FamilyReference: Decodable, Sendable {
    /// Logits [rows][vocabulary] of some rows of each prompt.
    public struct Results: Decodable, Sendable {
        public let logits: [[[Float]]]?
        /// With keys and values that were rounded to f16.
        public let logits_half_cache: [[[Float]]]?
    }

    public let tokens: [[Int32]]
    /// The rows of each prompt that results are given of.
    public let rows: [[Int]]
    public let logits: [[[Float]]]
    public let logits_half_cache: [[[Float]]]
    /// What the GGUF gives; nothing where that is what the folder gives.
    public let gguf: Results

    public init(_ url: URL?) throws {
        guard let url else { throw CocoaError(.fileNoSuchFile) }
        self = try JSONDecoder().decode(FamilyReference.self, from: try Data(contentsOf: url))
    }
}
