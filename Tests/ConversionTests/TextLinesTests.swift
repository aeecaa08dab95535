import Conversion
import Foundation
import ModelFormat
import TestKit
import Testing

@Suite("Lines of texts")
struct TextLinesTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// The lines of bytes, as they come out of a pipe.
    private func lines(_ bytes: [UInt8], limit: Int = TextLines.longestLine) throws -> [String] {
        let path = try folder.write("in", bytes)
        let descriptor = open(path, O_RDONLY)
        defer { close(descriptor) }
        let lines = TextLines(descriptor, name: "in", limit: limit)
        var found: [String] = []
        while let line = try lines.next() {
            #expect(line.number == found.count + 1)
            found.append(line.text)
        }
        return found
    }

    private func texts(_ text: String) throws -> [String] {
        try CalibrationTexts.read(try folder.write("t.txt", Array(text.utf8)))
    }

    /// The error of texts that are refused.
    private func refusal(_ bytes: [UInt8]) throws -> String {
        let path = try folder.write("t.txt", bytes)
        return #expect(throws: InputError.self) { try CalibrationTexts.read(path) }?.description ?? ""
    }

    @Test("A byte order mark and carriage returns at the ends are no content")
    func marks() throws {
        #expect(try lines(Array("\u{feff}one\r\n\r\nthree\rhere\nfour".utf8)) == ["one", "", "three\rhere", "four"])
        #expect(try lines(Array("\u{feff}".utf8)) == [""])
        #expect(try lines([]) == [])
        #expect(try lines(Array("a\n\u{feff}b\n".utf8)) == ["a", "\u{feff}b"])
        #expect(try texts("\u{feff}{\"text\": \"one\"}\r\n\r\ntwo\r\n") == ["one", "two"])
    }

    @Test("Lines come out as they went in, wherever the pieces are cut that they are read in")
    func pieces() throws {
        var random = TestRandom(seed: 3)
        for _ in 0..<20 {
            let wanted = (0..<Int.random(in: 1...40, using: &random)).map { _ in
                String(repeating: "ä", count: Int.random(in: 0...30_000, using: &random))
            }
            #expect(try lines(Array((wanted.joined(separator: "\n") + "\n").utf8)) == wanted)
        }
    }

    @Test("A line that is too long is refused by its number, before it is held")
    func tooLong() throws {
        let bytes = Array("ab\n".utf8) + Array(repeating: UInt8(ascii: "x"), count: 300_000)
        for end in ["", "\n"] {
            let error = #expect(throws: InputError.self) { try lines(bytes + Array(end.utf8), limit: 2048) }
            #expect(error?.description == "in: line 2 is longer than 2 KiB")
        }
        #expect(try lines(Array(repeating: UInt8(ascii: "x"), count: 2048) + [10], limit: 2048).first?.count == 2048)
    }

    @Test("A line that is no UTF-8 is refused by its number")
    func notUTF8() throws {
        for bad in [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80]] as [[UInt8]] {
            let error = try refusal(Array("fine\n".utf8) + bad + Array("\nmore\n".utf8))
            #expect(error.hasSuffix("t.txt: line 2 is not UTF-8"), "\(error)")
        }
    }

    @Test("A line that begins as JSON and is none is refused by its number, not taken for a text")
    func brokenJSON() throws {
        for (line, why) in [
            (#"{"text": "a"#, "line 3 is no JSON object: not valid JSON at byte 11"),
            (#"  {"text": "a"} x"#, "line 3 is no JSON object: not valid JSON at byte 16"),
            (#"{"txt": "a"}"#, #"line 3 is no JSON object with "text""#),
            (#"{"text": 7}"#, #"line 3 is no JSON object with "text""#),
        ] {
            let error = try refusal(Array("one\n\n\(line)\n".utf8))
            #expect(error.contains(why), "\(error)")
        }
    }
}
