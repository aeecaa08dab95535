/// How a model marks what it thinks.
struct ThinkingStyle: Sendable, Equatable {
    var opens: [String]
    var closes: [String]
    /// What a prompt ends with whose answer begins within thinking.
    var promptEnds: [String]

    init(_ open: String, _ closes: String..., promptEnds: [String] = []) {
        opens = [open]
        self.closes = closes
        self.promptEnds = [open] + promptEnds
    }
}
