import ModelFormat
import Testing
import TestKit

@testable import Text

/// Swift's own Unicode tables beside those of Hugging Face's tokenizers 0.22.1, for every character of the planes that have
/// some: where they differ, the versions of Unicode do.
@Suite("Unicode tables")
struct UnicodeTableTests {
    private struct Line: Decodable {
        let step: String?
        let changes: [String: [UInt32]]?
        let pattern: String?
        let members: [UInt32]?
    }

    private static let scalars = [0...0x3ffff as ClosedRange<UInt32>, 0xe0000...0xe0fff].joined().compactMap(
        Unicode.Scalar.init)

    private func ranges(_ values: [UInt32]) -> String {
        var ranges: [ClosedRange<UInt32>] = []
        for value in values.sorted() {
            if let last = ranges.last, last.upperBound + 1 == value {
                ranges[ranges.count - 1] = last.lowerBound...value
            } else {
                ranges.append(value...value)
            }
        }
        return ranges.map { range in
            let (low, high) = (String(range.lowerBound, radix: 16), String(range.upperBound, radix: 16))
            return low == high ? low : "\(low)-\(high)"
        }.joined(separator: " ")
    }

    @Test("Each step does to each character what tokenizers does, but for those named here")
    func steps() throws {
        for line in try LlamaVocabulary.characters(Line.self) {
            guard let name = line.step, let changes = line.changes else { continue }
            let step = try #require(NormalizerStep(rawValue: name))
            let normalizer = Normalizer([step])
            var (forms, meter) = (CanonicalForms(), WorkMeter { false })
            var different: [UInt32] = []
            for scalar in Self.scalars {
                let own = try normalizer.normalize([scalar], &forms, &meter).map(\.value)
                if own != changes["\(scalar.value)"] ?? [scalar.value] { different.append(scalar.value) }
            }
            #expect(ranges(different) == (Self.differences[name] ?? ""), "\(name)")
        }
    }

    @Test("Each set of characters is what tokenizers has, but for those named here")
    func sets() throws {
        for line in try LlamaVocabulary.characters(Line.self) {
            guard let pattern = line.pattern, let members = line.members else { continue }
            let matcher = try PatternMatcher(pattern)
            let others = Set(members)
            let different = Self.scalars.filter { scalar in
                let bytes = Array(String(scalar).utf8)
                var failures = PatternMatcher.Failures()
                let isMember = bytes.withUnsafeBufferPointer { matcher.matchEnd($0, 0, $0.count, &failures) > 0 }
                return isMember != others.contains(scalar.value)
            }
            #expect(ranges(different.map(\.value)) == (Self.differences[pattern] ?? ""), "\(pattern)")
        }
    }

    /// By step or set, in hexadecimal digits. Swift 6.3 has Unicode 17; the tables of `tokenizers` are of several versions,
    /// from 8 (what is punctuation, a mark) to 16.
    private static let differences: [String: String] = [
        #"\p{N}"#: "11de0-11de9 16ff4-16ff6",
        #"[\p{P}\$\+<=>\^`\|~]"#:
            "61d 9fd a76 c77 c84 166d 1b4e-1b4f 1b7d-1b7f 2e43-2e4f 2e52-2e5d 10d6e 10ead 10ed0 10f55-10f59 "
            + "10f86-10f89 111c9 113d4-113d5 113d7-113d8 1144b-1144f 1145a-1145b 1145d 11660-1166c 116b9 1183b "
            + "11944-11946 119e2 11a3f-11a46 11a9a-11a9c 11a9e-11aa2 11b00-11b09 11be1 11c41-11c45 11c70-11c71 "
            + "11ef7-11ef8 11f43-11f4f 11fff 12ff1-12ff2 16d6d-16d6f 16e97-16e9a 16fe2 1e5ff 1e95e-1e95f",
        #"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]"#:
            "88f c5c cdc 1acf-1add 1ae0-1aeb a7ce-a7cf a7d2 a7d4 a7f1 10940-10959 10ec5-10ec7 10efa-10efb "
            + "11b60-11b67 11db0-11ddb 11de0-11de9 16ea0-16eb8 16ebb-16ed3 16ff2-16ff6 187f8-187ff 18d09-18d1e "
            + "18d80-18df2 1e6c0-1e6de 1e6e0-1e6f5 1e6fe-1e6ff 2b73a-2b73f 2cea2-2cead 323b0-33479",
        "nfd": "11938",
        "nfkc": "32ff a7f2-a7f4 ab69 10781-10785 10787-107b0 107b2-107ba 1e030-1e06d 1f16c 1fbf0-1fbf9",
        "nfkd": "32ff a7f2-a7f4 ab69 10781-10785 10787-107b0 107b2-107ba 11938 1e030-1e06d 1f16c 1fbf0-1fbf9",
        "lowercase": "a7ce a7d2 a7d4 16ea0-16eb8",
        "drop_marks": "7fd 897-89f 8ca-8d3 9fe afa-aff b55 c04 c3c cf3 d00 d3b-d3c d81 eba ece 1715 180f 1abf-1add "
            + "1ae0-1aeb 1cf2-1cf3 1cf7 1df6-1dfa a82c a8ff 10d24-10d27 10d69-10d6d 10eab-10eac 10efa-10eff "
            + "10f46-10f50 10f82-10f85 11070 11073-11074 110c2 11145-11146 111c9 111ce-111cf 11241 1133b "
            + "113b8-113c0 113c2 113c5 113c7-113ca 113cc-113d0 113d2 113e1-113e2 1145e 1182c-1183a 11930-11935 "
            + "11937-11938 1193b-1193e 11940 11942-11943 119d1-119d7 119da-119e0 119e4 11a01-11a0a 11a33-11a39 "
            + "11a3b-11a3e 11a47 11a51-11a5b 11a8a-11a99 11b60-11b67 11d31-11d36 11d3a 11d3c-11d3d 11d3f-11d45 "
            + "11d47 11d8a-11d8e 11d90-11d91 11d93-11d97 11ef3-11ef6 11f00-11f01 11f03 11f34-11f3a 11f3e-11f42 "
            + "11f5a 13440 13447-13455 1611e-1612f 16f4f 16f7f-16f87 16fe4 16ff0-16ff1 1cf00-1cf2d 1cf30-1cf46 "
            + "1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5",
        "clean_text": "890-891 8e2 110cd 13430-1343f",
    ]
}
