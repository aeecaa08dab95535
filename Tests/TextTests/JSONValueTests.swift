import Testing
import TestKit
import Text

@Suite("JSON")
struct JSONValueTests {
    @Test("Objects keep the order of their keys")
    func order() throws {
        let value = try JSONValue(parsing: #"{"z": 1, "a": [true, null, -2.5e3], "m": "\u00e9\ud83d\ude00\n"}"#)
        #expect(
            value == .object(["z": .int(1), "a": .array([.bool(true), .null, .double(-2500)]), "m": .string("é😀\n")]))
    }

    @Test(
        "What is no JSON is refused",
        arguments: [
            "", "{", "[1,]", "{\"a\" 1}", "01x", "\"a", "nul", "{\"a\":1} x", "\"\\ud800\"", "\"\\q\"", "\"\n\"", "-",
            "1e999",
        ])
    func refused(text: String) {
        #expect(throws: TextError.self) { try JSONValue(parsing: text) }
    }

    @Test("Deep nesting is refused")
    func deep() {
        #expect(throws: TextError.self) { try JSONValue(parsing: String(repeating: "[", count: 1_000_000)) }
    }
}
