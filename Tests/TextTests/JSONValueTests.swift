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
            "1e999", "+1", "01", "-01", ".5", "--1", "[1 2]", "\"\\u12\"",
        ])
    func refused(text: String) {
        #expect(throws: TextError.self) { try JSONValue(parsing: text) }
    }

    @Test("A character of any number can stand in a text")
    func escapes() throws {
        #expect(try JSONValue(parsing: #""\u0000\u001f\ud83d\ude00""#) == .string("\u{0}\u{1f}😀"))
        #expect(try JSONValue(parsing: "[0, -0, 10, -1.5, 0.5e-3, 1E2]") != .null)
    }

    @Test("Values are counted, so that a small text takes no large memory")
    func many() {
        #expect(throws: TextError.self) {
            try JSONValue(parsing: "[" + String(repeating: "{\"\":0},", count: 500_000) + "0]")
        }
    }

    @Test("Random bytes and random changes never trap")
    func fuzz() {
        var random = TestRandom(seed: 3)
        let valid = Array(#"{"a": [1, -2.5e3, "\u00e9\n", true, null, {"b": {}}], "c": "\ud83d\ude00"}"#.utf8)
        for round in 0..<3000 {
            var bytes = valid
            for _ in 0..<(round % 8) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = try? JSONValue(parsing: String(decoding: bytes.prefix(round % 90), as: UTF8.self))
            _ = try? JSONValue(parsing: String(decoding: bytes, as: UTF8.self))
        }
    }

    @Test("Deep nesting is refused")
    func deep() {
        #expect(throws: TextError.self) { try JSONValue(parsing: String(repeating: "[", count: 1_000_000)) }
    }
}
