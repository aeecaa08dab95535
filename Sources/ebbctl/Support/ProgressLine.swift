import EbbProtocol
import Glibc

/// What a person sees while something takes long: a line on standard error, only where that is a terminal.
struct ProgressLine: ~Copyable {
    private let title: String
    private let shown: Bool
    private let start = ContinuousClock.now
    private var last = -1

    init(_ title: String) {
        self.title = title.printable
        shown = isatty(STDERR_FILENO) != 0
    }

    /// Shows a fraction, 0...1, and the time that is left.
    mutating func update(_ fraction: Double) {
        let percent = Int(fraction * 100)
        guard shown, percent != last else { return }
        last = percent
        let filled = min(30, percent * 30 / 100)
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
        let spent = (ContinuousClock.now - start).components.seconds
        let left = fraction > 0.05 ? " \(Int(Double(spent) * (1 - fraction) / fraction)) s left" : ""
        Terminal.control("\r\(title) [\(bar)] \(percent) %\(left)\u{1b}[K")
    }

    /// Shows a word on what is going on.
    func note(_ text: String) {
        if shown { Terminal.control("\r\(title): \(text.printable)\u{1b}[K") }
    }

    /// Takes the line away.
    func clear() {
        if shown { Terminal.control("\r\u{1b}[K") }
    }
}
