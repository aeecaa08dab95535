/// Why the engine cannot do what was asked, in a sentence.
public struct EngineError: Error, CustomStringConvertible, Sendable {
    /// What kind of trouble it is: whoever passes an error on decides by this, never by its sentence.
    public enum Kind: Sendable, Hashable, CaseIterable {
        /// What was asked for is impossible: a value out of its range, nothing to work on.
        case invalid
        /// The tokens do not fit the model's context.
        case contextFull
        /// Other requests hold the KV cache; there may be room later.
        case kvFull
        /// A value that is no number, or infinite, arose in a step.
        case numeric
        /// The system refuses memory or threads; it may give them later.
        case resources
        /// The model, or what was kept for it, cannot be used.
        case unusable
    }

    public let kind: Kind
    public let description: String

    public init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    /// What was asked for is impossible.
    public init(_ description: String) { self.init(.invalid, description) }
}
