/// Decides what goes into a model's next step. A value: generations come in as what they want, and go out as rows.
///
/// A step of few rows reads all weights for little arithmetic: a second row costs a tenth of the first, and each row
/// beyond some six as much as any. So rows are few while several clients want their next token, a prompt goes in pieces
/// that cost as much as a few tokens, and everyone who decodes is in every step as far as there are rows.
struct StepPlan {
    /// A generation that could take part.
    struct Candidate {
        let member: FairQueue.Member
        /// Prompt tokens that are still to be run; 0 for one that wants its next token.
        let prompt: Int
        /// Whether its prompt may be cut only at multiples of ``piece``.
        let isCutEvenly: Bool
    }

    /// What a generation gets: its next token, or a piece of its prompt.
    struct Share: Equatable {
        /// Place among the candidates.
        let candidate: Int
        let rows: Int
    }

    /// Rows that decode in one step while several clients want some, more only where there are more clients.
    static let sharedDecodeRows = 6
    /// Rows that decode in one step where all are one client's.
    static let decodeRows = 16
    /// Prompt tokens that go through the layers at a time: more are hardly faster, and make others wait.
    static let piece = 32
    /// Prompt tokens in a step where nobody decodes, and nobody else waits.
    static let promptRows = 96
    /// Prompt tokens that a step of others' next tokens makes room for: half of the time is the prompts'.
    static let promptRowsPerDecode = 8

    private var decoding = FairQueue(quantum: 1)
    private var prefilling = FairQueue(quantum: StepPlan.piece)
    /// Prompt tokens that have room beside decoding.
    private var promptCredit = StepPlan.piece
    private var known: [UInt64] = []

    /// The rows of the next step. Background requests are in it only where there are no others.
    mutating func next(_ candidates: [Candidate]) -> [Share] {
        forget(besides: candidates)
        let isForeground = candidates.contains { $0.member.origin.priority != .background }
        let ready = candidates.indices.filter {
            !isForeground || candidates[$0].member.origin.priority != .background
        }
        let clients = Self.clients(ready.map { candidates[$0].member.origin })
        let decode = decodeShares(candidates, ready, clients)
        return decode + promptShares(candidates, ready, clients, besides: decode.count)
    }

    private mutating func forget(besides candidates: [Candidate]) {
        let ids = candidates.map(\.member.id)
        guard ids != known else { return }
        known = ids
        let members = candidates.map(\.member)
        decoding.keep(members)
        prefilling.keep(members)
    }

    /// Users, or where there is but one, connections: those between whom a step is divided.
    private static func clients(_ origins: [RequestOrigin]) -> Int {
        let users = Set(origins.map(\.uid)).count
        return users > 1 ? users : Set(origins.map(\.connection)).count
    }

    private mutating func decodeShares(_ candidates: [Candidate], _ ready: [Int], _ clients: Int) -> [Share] {
        var wanting = ready.filter { candidates[$0].prompt == 0 }
        let limit = clients > 1 ? max(Self.sharedDecodeRows, clients) : Self.decodeRows
        // Where there is room for all, it is nobody's turn.
        if wanting.count <= limit { return wanting.map { Share(candidate: $0, rows: 1) } }
        var shares: [Share] = []
        while shares.count < limit, let member = decoding.next(wanting.map { candidates[$0].member }),
            let place = wanting.firstIndex(where: { candidates[$0].member.id == member.id })
        {
            decoding.charge(member, 1)
            shares.append(Share(candidate: wanting.remove(at: place), rows: 1))
        }
        return shares
    }

    private mutating func promptShares(
        _ candidates: [Candidate], _ ready: [Int], _ clients: Int, besides decoded: Int
    ) -> [Share] {
        var room = promptRoom(clients, decoded)
        guard room > 0, ready.contains(where: { candidates[$0].prompt > 0 }) else { return [] }
        var left = Dictionary(uniqueKeysWithValues: ready.map { ($0, candidates[$0].prompt) })
        var shares: [Share] = []
        while room > 0 {
            let wanting = ready.filter { left[$0, default: 0] > 0 }
            guard let member = prefilling.next(wanting.map { candidates[$0].member }),
                let index = wanting.first(where: { candidates[$0].member.id == member.id })
            else { break }
            let whole = min(Self.piece, left[index, default: 0])
            if candidates[index].isCutEvenly, whole > room { break }
            let rows = min(whole, room)
            prefilling.charge(member, rows)
            left[index, default: 0] -= rows
            room -= rows
            if decoded > 0 { promptCredit -= rows }
            shares.append(Share(candidate: index, rows: rows))
        }
        return shares
    }

    private mutating func promptRoom(_ clients: Int, _ decoded: Int) -> Int {
        guard decoded > 0 else {
            promptCredit = Self.piece
            return clients > 1 ? Self.piece * 2 : Self.promptRows
        }
        // One client's prompts may hold up its own tokens.
        let earned = clients > 1 ? Self.promptRowsPerDecode : Self.piece
        promptCredit = min(Self.piece, promptCredit + earned)
        return promptCredit == Self.piece ? Self.piece : 0
    }
}
