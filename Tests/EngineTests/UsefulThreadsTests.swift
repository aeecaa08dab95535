import Engine
import TestKit
import Testing

@Suite("How many threads are worth it")
struct UsefulThreadsTests {
    /// Steps of 20 pieces, each a quarter of a millisecond of one thread's work.
    /// - Parameters:
    ///   - shares: what each thread but the caller does of what it should: 1 where nothing holds it up.
    ///   - gain: how many times as fast as one thread so many are.
    /// - Returns: seconds that the work took with each number of threads.
    @discardableResult
    private func work(
        _ threads: inout UsefulThreads, seconds: Double = 5, shares: Double = 1, rows: (Int) -> Int = { _ in 1 },
        gain: (Int) -> Double
    ) -> [Int: Double] {
        var (spent, total, step): ([Int: Double], Double, Int) = ([:], 0, 0)
        while total < seconds {
            for _ in 0..<20 {
                let took = 0.00025 / gain(threads.active)
                spent[threads.active, default: 0] += took
                total += took
                threads.note(took: took, alone: took * (1 + Double(threads.active - 1) * shares), rows: rows(step))
            }
            threads.endStep()
            step += 1
        }
        return spent
    }

    private func share(_ spent: [Int: Double], _ count: Int) -> Double {
        (spent[count] ?? 0) / spent.values.reduce(0, +)
    }

    @Test("All are used where all bring something, but for a look now and then", arguments: [2, 3, 8, 16, 24])
    func all(most: Int) {
        var threads = UsefulThreads(most: most)
        let spent = work(&threads, seconds: 10) { Double($0) * 0.8 }
        #expect(share(spent, most) > 0.95, "\(spent)")
    }

    @Test("The best of many is found, wherever it lies", arguments: [1, 2, 3, 4, 6, 8, 12, 16])
    func best(best: Int) {
        var threads = UsefulThreads(most: 16)
        // Up to the best each brings its part, beyond it each takes as much away.
        let gain: (Int) -> Double = { $0 <= best ? Double($0) : Double(best * best) / Double($0) }
        work(&threads, seconds: 0.6, gain: gain)
        let spent = work(&threads, seconds: 10, gain: gain)
        #expect(share(spent, best) > 0.9, "\(spent)")
    }

    @Test("Where memory is as fast as it gets with four of eight, the others are left to other programs")
    func saturated() {
        var threads = UsefulThreads(most: 8)
        work(&threads) { Double(min($0, 4)) }
        let spent = work(&threads) { Double(min($0, 4)) }
        #expect(share(spent, 4) > 0.9, "\(spent)")
    }

    @Test("Where two are slower than one, one is used but for a look now and then, ever more rarely")
    func beside() {
        var threads = UsefulThreads(most: 2)
        let spent = work(&threads, seconds: 20, shares: 0.1) { $0 == 2 ? 0.5 : 1 }
        #expect(share(spent, 2) > 0 && share(spent, 2) < 0.05, "\(spent)")
    }

    @Test("When others come, fewer are used within a fifth of a second; when they have gone, all are again")
    func others() {
        var threads = UsefulThreads(most: 8)
        work(&threads, seconds: 20) { Double($0) * 0.9 }
        let busy: (Int) -> Double = { $0 > 4 ? 1.5 : Double($0) * 0.9 }
        work(&threads, seconds: 0.2, shares: 0.1, gain: busy)
        #expect(share(work(&threads, seconds: 1, gain: busy), 4) > 0.7)
        work(&threads, seconds: 12) { Double($0) * 0.9 }
        #expect(share(work(&threads, seconds: 10) { Double($0) * 0.9 }, 8) > 0.9)
    }

    @Test("Time slices that others take now and then do not lead astray")
    func noise() {
        var random = TestRandom(seed: 7)
        var threads = UsefulThreads(most: 8)
        // A piece in fifty is held up for a time slice, however many threads do it.
        let gain: (Int) -> Double = { count in
            let seconds = 0.00025 / Double(count) + (UInt8.random(in: 0..<50, using: &random) == 0 ? 0.003 : 0)
            return 0.00025 / seconds
        }
        work(&threads, seconds: 2, gain: gain)
        let spent = work(&threads, seconds: 30, gain: gain)
        let few = (1...4).reduce(0.0) { $0 + share(spent, $1) }
        #expect(few < 0.3, "\(spent)")
    }

    @Test("Pieces of other sizes are not compared with each other")
    func sizes() {
        var threads = UsefulThreads(most: 4)
        // Every other step is of more rows; were they compared, one half of them would seem faster.
        let spent = work(&threads, seconds: 10, rows: { $0 % 2 + 1 }) { Double($0) }
        #expect(share(spent, 4) > 0.95, "\(spent)")
    }

    @Test("Work that is too small to be shared stays with one")
    func small() {
        var threads = UsefulThreads(most: 4)
        work(&threads, seconds: 1) { $0 == 1 ? 1 : 0.9 }
        #expect(share(work(&threads) { $0 == 1 ? 1 : 0.9 }, 1) > 0.9)
    }
}
