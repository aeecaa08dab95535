import Engine
import Testing

@testable import Service

@Suite("Kept conversations")
struct PrefixCacheTests {
    private let pool: KVPool
    private let ledger = Ledger(room: .max)

    init() throws {
        pool = try KVPool(kvHeads: 1, headDim: 32, capacity: 512, kernels: try Kernels.fromEnvironment())
    }

    private func entry(_ uid: UInt32, from first: Int32, tokens: Int = 32) throws -> PrefixCache.Entry {
        let sequence = KVSequence(pool: pool, rings: [0], limit: 1024)
        try sequence.reserve(tokens)
        sequence.advance(tokens)
        return PrefixCache.Entry(
            tokens: (0..<Int32(tokens)).map { first + $0 }, sequence: sequence, uid: uid, isShared: false)
    }

    private func keep(_ entry: PrefixCache.Entry, in cache: inout PrefixCache) {
        cache.keep(entry) { ledger.reserve(.prefixes, $0) }
    }

    @Test("A user with many conversations does not push another's out")
    func others() throws {
        var cache = PrefixCache(limit: 1 << 30)
        keep(try entry(7, from: 0), in: &cache)
        for turn in 1..<60 { keep(try entry(8, from: Int32(turn) * 1000), in: &cache) }
        #expect(cache.entries.count { $0.uid == 7 } == 1)
        // The most recent of the other's are there.
        #expect(cache.entries.filter { $0.uid == 8 }.map { $0.tokens[0] } == (45..<60).map { $0 * 1000 })
    }

    @Test("Of long conversations, too, the one who holds most gives way")
    func bytes() throws {
        let one = try entry(7, from: 0, tokens: 320)
        var cache = PrefixCache(limit: one.sequence.byteCount * 3)
        keep(one, in: &cache)
        for turn in 1..<6 { keep(try entry(8, from: Int32(turn) * 1000, tokens: 320), in: &cache) }
        #expect(cache.entries.map { $0.tokens[0] } == [0, 4000, 5000])
        // A newcomer finds room.
        keep(try entry(9, from: 9000, tokens: 320), in: &cache)
        #expect(cache.entries.map { $0.tokens[0] } == [0, 5000, 9000])
    }

    @Test("Alone, a user's least recently used one goes first")
    func alone() throws {
        var cache = PrefixCache(limit: 1 << 30)
        for turn in 0..<20 { keep(try entry(7, from: Int32(turn) * 1000), in: &cache) }
        #expect(cache.entries.map { $0.tokens[0] } == (4..<20).map { $0 * 1000 })
    }
}
