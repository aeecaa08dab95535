import Conversion
import EbbProtocol
import Glibc
import Service
import Text

extension FuzzTarget {
    /// The settings file.
    static let settings = FuzzTarget("settings") {
        [
            #"{"memoryBudget": "25%", "memoryReserve": "512M", "idleSeconds": 1800, "calmSeconds": 0.5}"#,
            #"{"dwellSeconds": 5, "maxConnections": 64, "maxTextBytes": "1M", "templateSeconds": 2.5e0}"#, "{}",
        ].map { Array($0.utf8) }
    } run: { bytes in
        let settings = try Settings(bytes, name: "s.json", machine: 8 << 30, policy: policy)
        demand((0...(8 << 30)).contains(settings.policy.budget), "a budget beyond the machine")
        demand(settings.limits.maxConnections > 0, "no connection is possible")
    }

    /// Found out once: what the machine has is read from a dozen files.
    private static let policy = ServiceConfiguration.defaultPolicy

    /// Lines that a filter reads, JSON where they are objects; and how what others have written is shown.
    static let lines = FuzzTarget("lines") {
        [
            "\u{feff}{\"text\": \"a\", \"add_special\": false}\r\n\r\nplain\n{\"ids\": [1, 2]}",
            "a\u{1b}[31m\u{9b}\u{202e}b\n",
        ].map { Array($0.utf8) }
    } run: { bytes in
        let lines = try TextLines(path: try Scratch.write("lines", bytes))
        var numbers = 0
        while let line = try lines.next() {
            numbers += 1
            demand(line.number == numbers, "lines are counted wrong")
            demand(!line.text.utf8.contains(0x0a), "a line has two lines")
            demand(!line.text.printable.unicodeScalars.contains { $0.isControl }, "a control is shown")
            _ = try? JSONValue(parsing: line.text)
        }
    }
}
