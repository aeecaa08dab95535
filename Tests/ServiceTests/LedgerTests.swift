import Service
import Synchronization
import TestKit
import Testing

/// Bytes that all threads hold, and the most that it has been.
private final class Count: Sendable {
    let held = Atomic<Int>(0)
    let most = Atomic<Int>(0)
}

@Suite("The ledger")
struct LedgerTests {
    @Test("What is promised is no longer free, and is again when the promise ends")
    func promises() throws {
        let ledger = Ledger(room: 100)
        var first = ledger.reserve(.kv, 60)
        #expect(first?.bytes == 60 && ledger.free == 40)
        #expect(ledger.reserve(.prompts, 41) == nil && ledger.free == 40)
        let second = ledger.reserve(.prompts, 40)
        #expect(second != nil && ledger.free == 0)
        first?.shrink(to: 10)
        first?.shrink(to: 50)
        #expect(ledger.free == 50)
        first = nil
        #expect(ledger.free == 60 && ledger.entries.first { $0.kind == .prompts }?.bytes == 40)
    }

    @Test("What is promised to a user by name is half of the room at most, but for the first")
    func shares() {
        let ledger = Ledger(room: 100)
        var first = ledger.reserve(.texts, 40, uid: 1)
        #expect(ledger.reserve(.replies, 11, uid: 1) == nil && ledger.reserve(.texts, 10, uid: 1) != nil)
        let second = ledger.reserve(.texts, 60, uid: 2)
        #expect(second != nil && ledger.reserve(.texts, 1, uid: 2) == nil)
        first?.shrink(to: 5)
        let more = ledger.reserve(.texts, 35, uid: 1)
        #expect(more != nil && first != nil)
        first = nil
        withExtendedLifetime((second, more)) { #expect(ledger.free == 5) }
    }

    @Test("Less room takes no promise back, and lets no new one in")
    func shrinking() {
        let ledger = Ledger(room: 100)
        let held = ledger.reserve(.kv, 80)
        ledger.setRoom(50)
        #expect(ledger.free == -30 && held?.bytes == 80 && ledger.reserve(.texts, 1) == nil)
        ledger.setRoom(.max)
        #expect(ledger.reserve(.texts, .max) == nil && ledger.reserve(.texts, .min)?.bytes == 0)
    }

    @Test("However reservations come and go on many threads, no more is promised than there is room for")
    func threads() async {
        let room = 10_000
        let ledger = Ledger(room: room)
        let count = Count()
        await withTaskGroup(of: Void.self) { group in
            for seed in 0..<8 {
                group.addTask {
                    var random = TestRandom(seed: UInt64(seed))
                    var mine: [Ledger.Reservation] = []
                    for _ in 0..<20_000 {
                        switch Int.random(in: 0..<4, using: &random) {
                        case 0 where !mine.isEmpty:
                            let last = mine.removeLast()
                            count.held.subtract(last.bytes, ordering: .relaxed)
                        case 1 where !mine.isEmpty:
                            let one = mine[Int.random(in: mine.indices, using: &random)]
                            let rest = one.bytes / 2
                            count.held.subtract(one.bytes - rest, ordering: .relaxed)
                            one.shrink(to: rest)
                        default:
                            let bytes = Int.random(in: 0...3000, using: &random)
                            let kind = Ledger.Kind.allCases.randomElement(using: &random) ?? .kv
                            guard let one = ledger.reserve(kind, bytes) else { continue }
                            let now = count.held.add(bytes, ordering: .relaxed).newValue
                            count.most.max(now, ordering: .relaxed)
                            mine.append(one)
                        }
                        #expect(ledger.free >= 0)
                    }
                    count.held.subtract(mine.reduce(0) { $0 + $1.bytes }, ordering: .relaxed)
                }
            }
        }
        #expect(count.most.load(ordering: .relaxed) <= room && count.most.load(ordering: .relaxed) > room / 2)
        #expect(ledger.free == room && ledger.entries.allSatisfy { $0.bytes == 0 })
    }
}

@Suite("The memory books")
struct MemoryBooksTests {
    private func measured(_ anonymous: Int, expanded: Int = 0, kv: Int = 0, promised: Int = 0) -> MemoryBooks.Measured {
        var now = MemoryBooks.Measured()
        (now.anonymous, now.expanded, now.kv, now.promised) = (anonymous, expanded, kv, promised)
        return now
    }

    private func standing(
        budget: Int = 1000, available: Int = 1 << 40, kv: Int = 0, kvPromised: Int = 0
    ) -> MemoryBooks.Standing {
        var now = MemoryBooks.Standing()
        (now.budget, now.available, now.kv, now.kvPromised) = (budget, available, kv, kvPromised)
        return now
    }

    @Test("What the process takes otherwise is what is measured, less expansions and KV caches")
    func other() {
        var books = MemoryBooks()
        books.measure(measured(500, expanded: 200, kv: 100))
        #expect(books.other == 200 && books.room(standing(kv: 100, kvPromised: 100)) == 800)
    }

    @Test("Buffers of steps count in full, in use or not")
    func scratch() {
        var books = MemoryBooks()
        var now = measured(100)
        (now.scratch, now.scratchLimit) = (10, 60)
        books.measure(now)
        #expect(books.other == 150)
        (now.anonymous, now.scratch) = (150, 60)
        books.measure(now)
        #expect(books.other == 150)
    }

    @Test("A promise that is kept, or half kept, or not yet, counts once")
    func promises() {
        for kept in [0, 30, 60] {
            var books = MemoryBooks()
            books.measure(measured(100))
            books.measure(measured(100 + kept, promised: 60))
            #expect(books.other == 100 && books.kept == kept)
            // 60 of the room are promised, so that 840 are free.
            #expect(books.room(standing()) == 900)
        }
    }

    @Test("What grows beside the promises is found when they end")
    func drift() {
        var books = MemoryBooks()
        books.measure(measured(100))
        books.measure(measured(220, promised: 60))
        #expect(books.other == 160)
        books.measure(measured(220))
        #expect(books.other == 220)
        books.measure(measured(90))
        #expect(books.other == 90)
    }

    @Test("KV blocks that nobody promised take room")
    func unpromised() {
        var books = MemoryBooks()
        books.measure(measured(300, kv: 200))
        #expect(books.room(standing(kv: 200, kvPromised: 50)) == 1000 - 100 - 150)
    }

    @Test("The smallest limit counts where it is less than the budget; what is in use of the promises is inside it")
    func limit() {
        var books = MemoryBooks()
        books.measure(measured(300, kv: 200))
        var now = standing(available: 250, kv: 200, kvPromised: 200)
        #expect(books.room(now) == 450)
        (now.mapped, now.reserve, now.yielding, now.pinned) = (40, 50, 30, 20)
        #expect(books.room(now) == 450 + 30 - 40 - 50)
        now.available = 0
        now.mapped = 1000
        #expect(books.room(now) == 0)
    }

    @Test("What is promised and not used yet is spoken for")
    func outstanding() {
        var books = MemoryBooks()
        books.measure(measured(100))
        books.measure(measured(130, promised: 60))
        #expect(books.outstanding(promised: 260, standing(kv: 50, kvPromised: 200)) == 260 - 30 - 50)
    }
}
