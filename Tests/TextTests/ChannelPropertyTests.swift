import TestKit
import Testing

@testable import Text

@Suite("Channels of whatever a model writes")
struct ChannelPropertyTests {
    /// Every mark that is text no more once it is recognized.
    private static func removable(_ format: ChannelFormat) -> [String] {
        let opens = (format.thinking?.opens ?? []) + (format.calls?.opens ?? []) + (format.headers?.opens ?? [])
        let closes = (format.thinking?.closes ?? []) + (format.calls?.closes ?? [])
        let headers = format.headers.map { $0.messageEnds + $0.words + [$0.end, "to=f", "all"] } ?? []
        return opens + closes + headers + format.dropped
    }

    /// Marks, what stands in calls, halves of marks, and plain words that are all different.
    private static func text(_ format: ChannelFormat, _ random: inout TestRandom) -> (parts: [String], words: [String])
    {
        let marks =
            removable(format) + format.inner.filter { !$0.isEmpty }
            + (format.calls.map { style in
                style.grammar.protections.flatMap { [$0.open, $0.close] }
            } ?? [])
        let pieces = [
            "{", "}", "[", "]", "\"", "\\", "\n", " ", ",", ":", "(", ")", "'", "=", "\"name\"", "\"arguments\"", "é",
            "你", "👩‍👩‍👧",
        ]
        var parts: [String] = []
        var words: [String] = []
        for index in 0..<Int.random(in: 1...40, using: &random) {
            switch Int.random(in: 0..<8, using: &random) {
            case 0...3: if let mark = marks.randomElement(using: &random) { parts.append(mark) }
            case 4:
                if let mark = marks.randomElement(using: &random) {
                    parts.append(String(mark.prefix(Int.random(in: 0...mark.count, using: &random))))
                }
            case 5:
                words.append("W\(index)W")
                parts.append("W\(index)W")
            default: if let piece = pieces.randomElement(using: &random) { parts.append(piece) }
            }
        }
        return (parts, words)
    }

    /// Whether a word may be a recipient of a header, which is no text.
    private static func isRecipient(_ word: String, _ text: String) -> Bool {
        text.split(whereSeparator: { " <\n".contains($0) }).contains { $0.contains("to=") && $0.contains(word) }
    }

    private static func read(_ format: ChannelFormat, _ parts: [String], prompt: String) -> ReadAnswer {
        var reader = ChannelReader(format, prompt: MarkedText(trusting: prompt), offersTools: true)
        let pieces = parts.flatMap { reader.append($0, isPrinted: true) }
        return ReadAnswer(pieces + reader.finish())
    }

    @Test("Channel: no word is lost and none is written twice, and a text reads the same however it is cut")
    func nothingLost() throws {
        var random = TestRandom(seed: 16)
        for format in ChannelFormat.all {
            for _ in 0..<150 {
                let (parts, words) = Self.text(format, &random)
                let prompts = [""] + (format.headers?.promptEnds ?? []) + (format.thinking?.opens ?? [])
                let prompt = prompts.randomElement(using: &random) ?? ""
                let whole = Self.read(format, [parts.joined()], prompt: prompt)
                let scalars = parts.joined().unicodeScalars.map { String($0) }
                #expect(Self.read(format, scalars, prompt: prompt) == whole, "\(parts)")
                #expect(Self.read(format, parts, prompt: prompt) == whole, "\(parts)")
                let out = [whole.answer, whole.thinking, whole.raw].joined(separator: "\0")
                for word in words where !Self.isRecipient(word, parts.joined()) {
                    #expect(out.components(of: word) == 1, "\(word) of \(parts): \(whole)")
                }
                #expect(!out.contains("\u{fffd}"))
                for call in whole.calls { #expect(JSONText.isObject(call.arguments)) }
            }
        }
    }

    @Test("Channel: what comes out is what was written less marks and the line ends beside them")
    func lessMarks() throws {
        var random = TestRandom(seed: 8)
        for format in ChannelFormat.all {
            let removable = Self.removable(format).filter { !$0.isEmpty }
            for _ in 0..<100 {
                let (parts, _) = Self.text(format, &random)
                var reader = ChannelReader(format, prompt: MarkedText(trusting: ""), offersTools: true)
                let pieces = reader.append(parts.joined(), isPrinted: true) + reader.finish()
                let out = pieces.map(\.text).joined()
                let isLess = Self.isLess(Array(out.utf8), Array(parts.joined().utf8), removable.map { Array($0.utf8) })
                #expect(isLess, "\(parts), \(pieces)")
            }
        }
    }

    /// Whether one text is the other without some of these marks, line ends and spaces (of headers).
    private static func isLess(_ out: [UInt8], _ written: [UInt8], _ marks: [[UInt8]]) -> Bool {
        // Which lengths of `out` can have come from what was written up to a place.
        var reachable: [Set<Int>] = Array(repeating: [], count: written.count + 1)
        reachable[0] = [0]
        for at in written.indices {
            for length in reachable[at] {
                if length < out.count, out[length] == written[at] { reachable[at + 1].insert(length + 1) }
                if written[at] == 0x0a || written[at] == 0x20 { reachable[at + 1].insert(length) }
                // A recipient.
                if written[at...].starts(with: Array("to=".utf8)) {
                    let end = written[at...].firstIndex { $0 == 0x20 || $0 == 0x3c } ?? written.count
                    reachable[end].insert(length)
                }
                for mark in marks where written[at...].starts(with: mark) {
                    reachable[at + mark.count].insert(length)
                }
            }
        }
        return reachable[written.count].contains(out.count)
    }

    @Test("Channel: random bytes of tokens, printed or not, never trap")
    func randomTokens() throws {
        var random = TestRandom(seed: 3)
        for format in ChannelFormat.all {
            var reader = ChannelReader(format, prompt: MarkedText(trusting: ""), offersTools: true)
            for _ in 0..<50 {
                for part in Self.text(format, &random).parts {
                    _ = reader.append(part, isPrinted: Bool.random(using: &random))
                }
            }
            _ = reader.finish()
        }
    }

    @Test(
        "Channel: a long answer of the worst kind takes time in proportion",
        arguments: [
            "<", "<think>", "{", "\"", "<tool_call>{\"name\": \"f\", \"arguments\": {", "\n", "[", "<|channel|>", ">>>",
        ])
    func linear(piece: String) throws {
        for format in ChannelFormat.all {
            let text = String(repeating: piece, count: 50_000 / piece.utf8.count)
            let read = Self.read(format, [text], prompt: "")
            #expect(read.answer.utf8.count + read.thinking.utf8.count + read.raw.utf8.count <= text.utf8.count)
        }
    }
}

extension String {
    fileprivate func components(of word: String) -> Int {
        var count = 0
        var at = 0
        let bytes = Array(utf8)
        while let found = TextSearch(word).first(in: bytes, from: at) {
            count += 1
            at = found.upperBound
        }
        return count
    }
}
