import Engine
import Testing

@Suite("How many threads are worth it")
struct UsefulThreadsTests {
    /// A second of work, in pieces of a millisecond.
    /// - Parameter gain: how many times as fast as one thread so many are.
    private func work(_ threads: inout UsefulThreads, seconds: Double = 1, gain: (Int) -> Double) -> [Int] {
        var seen: [Int] = []
        for _ in 0..<Int(seconds * 1000) {
            threads.note(took: 0.001, alone: 0.001 * gain(threads.active))
            seen.append(threads.active)
        }
        return seen
    }

    @Test("All are used where they share the work")
    func all() {
        var threads = UsefulThreads(most: 8)
        #expect(work(&threads) { Double($0) * 0.8 }.allSatisfy { $0 == 8 })
    }

    @Test("Where two are slower than one, one is used but for a look now and then, ever more rarely")
    func beside() {
        var threads = UsefulThreads(most: 2)
        let first = work(&threads) { $0 == 2 ? 0.5 : 1 }
        #expect(first.prefix(15).allSatisfy { $0 == 2 })
        let later = work(&threads, seconds: 20) { $0 == 2 ? 0.5 : 1 }
        let share = Double(later.count { $0 == 2 }) / Double(later.count)
        #expect(share > 0 && share < 0.03, "\(share)")
    }

    @Test("When the others have gone, all are used again")
    func again() {
        var threads = UsefulThreads(most: 4)
        _ = work(&threads, seconds: 5) { $0 > 1 ? 0.4 : 1 }
        #expect(threads.active < 4)
        _ = work(&threads, seconds: 12) { Double($0) * 0.9 }
        #expect(threads.active == 4)
    }

    @Test("As many as bring something stay: with three of eight cores taken, at least four")
    func some() {
        var threads = UsefulThreads(most: 8)
        let seen = work(&threads, seconds: 10) { $0 > 5 ? 2 : Double($0) * 0.9 }
        #expect(seen.suffix(9000).count { $0 == 4 } > 8500)
    }

    @Test("Work that is too small to be shared stays with one")
    func small() {
        var threads = UsefulThreads(most: 4)
        _ = work(&threads) { _ in 0.9 }
        #expect(threads.active == 1)
    }
}
