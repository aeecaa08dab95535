/// What becomes of a pattern's matches where they split text, by the names that tokenizer.json has.
public enum SplitBehavior: String, Sendable {
    /// A match is a piece, and so is what lies between two.
    case isolated = "Isolated"
    /// Matches go.
    case removed = "Removed"
    /// A match belongs to the piece before it.
    case mergedWithPrevious = "MergedWithPrevious"
    /// A match belongs to the piece behind it.
    case mergedWithNext = "MergedWithNext"
    /// Matches in a row are one piece.
    case contiguous = "Contiguous"

    /// The list of steps in a container's metadata, each a name and what it works with.
    public static let key = "tokenizer.ebb.splitter"
    /// Then a pattern, a behavior, and `1` where matches and what lies between them change places.
    public static let splitKey = "split"
    /// Then the mark that stands for a space, and where it is put before a piece: always, first, never.
    public static let metaspaceKey = "metaspace"
    /// A space before each piece that begins without one.
    public static let spaceKey = "space"
}
