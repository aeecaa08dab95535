import EbbProtocol

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

    static func bytes(_ count: UInt64) -> String { bytes(Int(clamping: count)) }

    /// `494 M`, for numbers of weights.
    static func count(_ count: Int) -> String {
        switch count {
        case ..<1000: "\(count)"
        case ..<1_000_000: "\(decimal(Double(count) / 1e3, 0)) k"
        case ..<1_000_000_000: "\(decimal(Double(count) / 1e6, 0)) M"
        default: "\(decimal(Double(count) / 1e9, 1)) B"
        }
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

    /// Lines of at most 80 columns. The first begins with `indent` spaces, the others with `next` (two more, unless said).
    /// Runs of spaces stay, a word that no line holds is cut; controls are written out.
    static func wrapped(_ text: String, indent: Int = 0, next: Int? = nil) -> String {
        var lines = [String(repeating: " ", count: indent)]
        var isEmpty = true
        for word in text.printable.split(separator: " ", omittingEmptySubsequences: false) {
            var word = word
            while (lines.last?.count ?? 0) + (isEmpty ? 0 : 1) + word.count > 80 {
                let room = 80 - (lines.last?.count ?? 0)
                if isEmpty, room > 0 {
                    lines[lines.count - 1] += word.prefix(room)
                    word = word.dropFirst(room)
                }
                lines.append(String(repeating: " ", count: min(next ?? indent + 2, 40)))
                isEmpty = true
            }
            lines[lines.count - 1] += (isEmpty ? "" : " ") + word
            isEmpty = false
        }
        return lines.joined(separator: "\n")
    }

    /// At most so many characters as they are printed, with … for what is left out.
    static func cut(_ text: String, _ width: Int) -> String {
        let text = text.printable
        return text.count > width ? text.prefix(max(0, width - 1)) + "…" : text
    }

    static func padded(_ text: String, _ width: Int, left: Bool = false) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return left ? space + text : text + space
    }
}

/// Columns that line up. Numbers go right. Controls in a cell are written out.
struct Table {
    private var rows: [[String]] = []
    private let right: Set<Int>

    init(_ header: [String], right: Set<Int> = []) {
        rows = [header]
        self.right = right
    }

    mutating func add(_ row: [String]) { rows.append(row.map(\.printable)) }

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
