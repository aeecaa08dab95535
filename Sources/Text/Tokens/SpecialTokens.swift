/// Finds special tokens in text: at each place the longest, by a trie over bytes, in one pass.
struct SpecialTokens: Sendable {
    private struct Node: Sendable {
        var children: [UInt8: Int32] = [:]
        var token: Int32 = -1
    }

    private var nodes: [Node] = [Node()]
    var isEmpty: Bool { nodes.count == 1 }

    mutating func insert(_ text: ArraySlice<UInt8>, token: Int32) {
        guard !text.isEmpty else { return }
        var node = 0
        for byte in text {
            if let next = nodes[node].children[byte] {
                node = Int(next)
            } else {
                nodes.append(Node())
                nodes[node].children[byte] = Int32(nodes.count - 1)
                node = nodes.count - 1
            }
        }
        if nodes[node].token < 0 { nodes[node].token = token }
    }

    enum Part: Equatable {
        case text(Range<Int>)
        case token(Int32)
    }

    /// Cuts text into special tokens and what lies between them.
    func cut(_ bytes: [UInt8]) -> [Part] {
        var parts: [Part] = []
        var plainStart = 0
        var at = 0
        while at < bytes.count {
            guard let (token, length) = longest(bytes, at) else {
                at += 1
                continue
            }
            if plainStart < at { parts.append(.text(plainStart..<at)) }
            parts.append(.token(token))
            at += length
            plainStart = at
        }
        if plainStart < bytes.count { parts.append(.text(plainStart..<bytes.count)) }
        return parts
    }

    private func longest(_ bytes: [UInt8], _ start: Int) -> (Int32, Int)? {
        var node = 0
        var best: (Int32, Int)?
        var at = start
        while at < bytes.count, let next = nodes[node].children[bytes[at]] {
            node = Int(next)
            at += 1
            if nodes[node].token >= 0 { best = (nodes[node].token, at - start) }
        }
        return best
    }
}
