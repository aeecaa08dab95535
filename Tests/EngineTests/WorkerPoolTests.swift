import Engine
import Glibc
import Synchronization
import Testing

@Suite("The threads of a step")
struct WorkerPoolTests {
    /// The ranges that a run is cut into, in order.
    private func pieces(_ pool: WorkerPool, items: Int, grain: Int) -> [Range<Int>] {
        let seen = Mutex<[Range<Int>]>([])
        pool.run(items: items, grain: grain) { range, _ in seen.withLock { $0.append(range) } }
        return seen.withLock { $0.sorted { $0.lowerBound < $1.lowerBound } }
    }

    private func expected(items: Int, grain: Int) -> [Range<Int>] {
        stride(from: 0, to: items, by: grain).map { $0..<min($0 + grain, items) }
    }

    @Test("Every item is done once, in pieces of the grain, by 1 to 5 threads")
    func once() throws {
        for threads in 1...5 {
            let pool = try WorkerPool(threads: threads)
            for run in 0..<2000 {
                let (items, grain) = (run % 97, 1 + run % 13)
                let found = pieces(pool, items: items, grain: grain)
                if threads == 1 {
                    #expect(found == (items > 0 ? [0..<items] : []))
                } else {
                    #expect(found == expected(items: items, grain: grain))
                }
            }
        }
    }

    @Test("The pieces are the same where a thread is held up; it is soon left out")
    func heldUp() throws {
        let pool = try WorkerPool(threads: 2)
        let steps = PieceThreads(pool)
        var shared: [Bool] = []
        for _ in 0..<200 {
            let seen = Mutex<[Range<Int>]>([])
            let others = Mutex(0)
            steps.begin(rows: 1)
            steps.run(isLayer: true) {
                pool.run(items: 64, grain: 3) { range, thread in
                    usleep(thread > 0 ? 5000 : 50)
                    seen.withLock { $0.append(range) }
                    if thread > 0 { others.withLock { $0 += 1 } }
                }
            }
            steps.end()
            let found = seen.withLock { $0.sorted { $0.lowerBound < $1.lowerBound } }
            #expect(found == expected(items: 64, grain: 3))
            shared.append(others.withLock { $0 } > 0)
        }
        // It had pieces, and has them no more, but when it is looked at again.
        #expect(shared.contains(true) && shared.count(where: { $0 }) < 100, "\(shared.count { $0 }) of 200")
    }

    @Test("A pool that sleeps is woken, and ends")
    func sleeps() throws {
        let pool = try WorkerPool(threads: 3)
        for _ in 0..<20 {
            #expect(pieces(pool, items: 9, grain: 1).count == 9)
            usleep(2000)
        }
    }
}
