import EbbProtocol
import Testing

@Suite("Text that others have written, as it is printed")
struct PrintableTextTests {
    @Test(
        "Plain text of any script is printed as it is",
        arguments: ["smollm2", "Grüße, 世界", "می‌خواهم", "👩‍👩‍👧", "e\u{301}", ""])
    func plain(text: String) { #expect(text.printable == text && text.printableLines == text) }

    @Test(
        "Controls are written out",
        arguments: [
            ("a\u{1b}[2Jb", #"a\u{1b}[2Jb"#), ("\u{9b}31m", #"\u{9b}31m"#), ("\u{85}", #"\u{85}"#),
            ("\u{7f}\u{0}", #"\u{7f}\u{0}"#), ("one\r\ntwo\t", #"one\r\ntwo\t"#),
            ("\u{202e}gnp.exe", #"\u{202e}gnp.exe"#), ("\u{2066}\u{2069}", #"\u{2066}\u{2069}"#),
            ("\u{200e}\u{200f}\u{61c}", #"\u{200e}\u{200f}\u{61c}"#), ("\u{2028}\u{2029}", #"\u{2028}\u{2029}"#),
            ("\u{feff}\u{200b}\u{2060}", #"\u{feff}\u{200b}\u{2060}"#), ("\u{e0041}", #"\u{e0041}"#),
        ])
    func controls(text: String, shown: String) { #expect(text.printable == shown) }

    @Test("No scalar of the C0, C1 and direction controls is left in what is printed")
    func none() {
        let ranges: [ClosedRange<UInt32>] = [
            0...0x1f, 0x7f...0x9f, 0x200e...0x200f, 0x202a...0x202e, 0x2066...0x2069, 0x61c...0x61c,
        ]
        let controls = ranges.joined().compactMap(Unicode.Scalar.init)
        for control in controls {
            let text = "a" + String(control) + "b"
            #expect(!text.printable.unicodeScalars.contains(control), "U+\(String(control.value, radix: 16))")
        }
        #expect(controls.allSatisfy { $0.isControl })
    }

    @Test("Over several lines, line feeds and tabs stay and nothing else does")
    func lines() { #expect("a\tb\r\n\u{1b}[0mc\n".printableLines == "a\tb\\r\n\\u{1b}[0mc\n") }
}
