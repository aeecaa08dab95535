import TestKit
import Testing

@testable import Service

@Suite("Stop texts")
struct StopTextTests {
    /// Where a text ends, the slow way: the first place where a stop text is complete, and the longest that is.
    private func expected(_ text: [UInt8], _ stops: [[UInt8]]) -> (text: [UInt8], hasStopped: Bool) {
        for end in 0...text.count {
            let complete = stops.filter { !$0.isEmpty && text[..<end].suffix($0.count).elementsEqual($0) }
            if let longest = complete.map(\.count).max() { return (Array(text[..<(end - longest)]), true) }
        }
        return (text, false)
    }

    @Test("However a text comes in pieces, it ends where a stop text is complete, or where it ends")
    func property() {
        var random = TestRandom(seed: 9)
        func word(_ most: Int) -> String {
            String(
                (0..<Int.random(in: 0...most, using: &random)).map { _ in "abé".randomElement(using: &random) ?? "a" })
        }
        for _ in 0..<3000 {
            let stops = (0..<Int.random(in: 0...4, using: &random)).map { _ in word(5) }
            var filter = StopFilter(stops)
            var (whole, given) = ("", "")
            for _ in 0..<8 {
                let piece = word(4)
                whole += piece
                given += filter.append(piece).printed
            }
            given += filter.finish().printed
            let right = expected(Array(whole.utf8), stops.map { Array($0.utf8) })
            #expect(Array(given.utf8) == right.text && filter.hasStopped == right.hasStopped, "\(whole) \(stops)")
        }
    }

    @Test("A beginning of one stop text does not hide another that is complete when the text ends")
    func end() {
        var filter = StopFilter(["xynever", "y"])
        #expect(filter.append("ax").printed == "a")
        #expect(filter.append("y").printed == "x" && filter.hasStopped)
        #expect(filter.finish().printed == "")
    }

    @Test("Names of special tokens are looked through and never given out")
    func special() {
        var filter = StopFilter(["<|im_start|>user", "b<|end|>"])
        #expect(filter.append("<|im_start|>", isPrinted: false).printed == "")
        #expect(filter.append(" Hello b").printed == " Hello ")
        #expect(filter.append("<|end|>", isPrinted: false).printed == "" && filter.hasStopped)
        var plain = StopFilter([])
        #expect(plain.append("<|im_start|>", isPrinted: false).printed == "" && plain.append("a").printed == "a")
    }

    @Test("What might have become a stop text is given out at the end")
    func held() {
        var filter = StopFilter(["stop now"])
        #expect(filter.append("please stop n").printed == "please ")
        #expect(filter.finish().printed == "stop n" && !filter.hasStopped)
    }
}
