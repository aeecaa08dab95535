/// How a model marks what it thinks.
struct ThinkingStyle: Sendable, Equatable {
    var opens: [String]
    var closes: [String]

    init(_ open: String, _ closes: String...) {
        opens = [open]
        self.closes = closes
    }
}
