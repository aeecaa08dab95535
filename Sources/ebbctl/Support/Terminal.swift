import Glibc

/// What a person sees while something takes long: a line on standard error, only where that is a terminal.
struct ProgressLine: ~Copyable {
    private let title: String
    private let shown: Bool
    private let start = ContinuousClock.now
    private var last = -1

    init(_ title: String) {
        self.title = title
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
        Terminal.error("\r\(title) [\(bar)] \(percent) %\(left)\u{1b}[K", newline: false)
    }

    /// Shows a word on what is going on.
    func note(_ text: String) {
        if shown { Terminal.error("\r\(title): \(text)\u{1b}[K", newline: false) }
    }

    /// Takes the line away.
    func clear() {
        if shown { Terminal.error("\r\u{1b}[K", newline: false) }
    }
}

enum Terminal {
    static func error(_ text: String, newline: Bool = true) { write(STDERR_FILENO, text + (newline ? "\n" : "")) }

    static func out(_ text: String) { write(STDOUT_FILENO, text) }

    private static func write(_ fd: Int32, _ text: String) {
        var text = text
        text.withUTF8 { bytes in
            var done = 0
            while done < bytes.count, let base = bytes.baseAddress {
                let n = Glibc.write(fd, base + done, bytes.count - done)
                if n <= 0, errno != EINTR { return }
                done += max(n, 0)
            }
        }
    }
}

/// Numbers as people read them.
enum Human {
    /// `98.4 MB`; decimal units, as file sizes are.
    static func bytes(_ count: Int) -> String {
        let units = ["B", "kB", "MB", "GB", "TB"]
        var value = Double(count)
        var unit = 0
        while value >= 1000, unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        return unit == 0 ? "\(count) B" : "\(decimal(value, 1)) \(units[unit])"
    }

    static func decimal(_ value: Double, _ places: Int) -> String {
        guard value.isFinite else { return "-" }
        var scale = 1.0
        for _ in 0..<places { scale *= 10 }
        let rounded = (value * scale).rounded() / scale
        let text = String(rounded)
        guard let dot = text.firstIndex(of: "."), !text.contains("e") else { return text }
        if places == 0 { return String(text[..<dot]) }
        let digits = text.distance(from: dot, to: text.endIndex) - 1
        return text + String(repeating: "0", count: max(0, places - digits))
    }

    /// `243 t/s`, or `-` for what has not been measured.
    static func rate(_ rate: Double) -> String { rate > 0 ? "\(decimal(rate, 0)) t/s" : "-" }

    /// Lines of at most 80 columns; the first and all others begin with so many spaces, others with two more.
    static func wrapped(_ text: String, indent: Int) -> String {
        var lines = [String(repeating: " ", count: indent)]
        var isEmpty = true
        for word in text.split(separator: " ") {
            if !isEmpty, (lines.last?.count ?? 0) + 1 + word.count > 80 {
                lines.append(String(repeating: " ", count: indent + 2))
                isEmpty = true
            }
            lines[lines.count - 1] += (isEmpty ? "" : " ") + word
            isEmpty = false
        }
        return lines.joined(separator: "\n")
    }

    static func padded(_ text: String, _ width: Int, left: Bool = false) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return left ? space + text : text + space
    }
}

/// Columns that line up. Numbers go right.
struct Table {
    private var rows: [[String]] = []
    private let right: Set<Int>

    init(_ header: [String], right: Set<Int> = []) {
        rows = [header]
        self.right = right
    }

    mutating func add(_ row: [String]) { rows.append(row) }

    var text: String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            let cells = row.enumerated().map { Human.padded($1, widths[$0], left: right.contains($0)) }
            var line = cells.joined(separator: "  ")
            while line.hasSuffix(" ") { line.removeLast() }
            return line + "\n"
        }.joined()
    }
}
