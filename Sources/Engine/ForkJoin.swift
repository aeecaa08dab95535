import CEbbSystem
import CKernels

/// Hands a job out to the threads of a pool, and joins them.
///
/// A join waits for pieces that somebody has begun, never for a thread: one that does not run, since another program has
/// its core, is not missed, because the others take what it would have taken; one that is stopped within a piece costs
/// that piece.
///
/// @unchecked Sendable: `job` is written by the one caller of `run` while the turn is shut. Others read it only between
/// taking a piece, which fails in any turn but the present one, and counting it as done; and the caller goes on when all
/// pieces are counted. The words are atomics.
final class ForkJoin: @unchecked Sendable {
    private struct Job {
        let body: (Range<Int>, Int) -> Void
        let items: Int
        let grain: Int
    }

    /// Each has a cache line of its own, but for `items` and `grain`, which change together.
    private enum Word: Int {
        case turn = 0, done = 16, items = 32, grain = 33, epoch = 48, sleepers = 64, stop = 80, joiner = 96
        case active = 112
        static let capacity = 128
    }

    /// Seconds that a thread spins before it sleeps: longer than what lies between two forks of a step, and than the end of
    /// a piece of decode; shorter than what a sleeping thread's core could do for others.
    private static let patience = 50e-6

    private let threads: Int
    private let words: UnsafeMutablePointer<UInt32>
    private let scratches: UnsafeMutableRawPointer
    private var job: Job?
    /// Of the caller alone: threads for the next jobs, and seconds that jobs have taken less than on the caller alone, as
    /// far as its share of them tells.
    private(set) var active: Int
    private(set) var secondsSaved = 0.0

    init(threads: Int) {
        self.threads = threads
        active = threads
        words = UnsafeMutableRawPointer.allocate(byteCount: Word.capacity * 4, alignment: 64)
            .bindMemory(to: UInt32.self, capacity: Word.capacity)
        words.initialize(repeating: 0, count: Word.capacity)
        words[Word.active.rawValue] = UInt32(threads)
        scratches = .allocate(byteCount: threads * EBB_SCRATCH_BYTES, alignment: 64)
    }

    deinit {
        UnsafeMutableRawPointer(words).deallocate()
        scratches.deallocate()
    }

    private func word(_ word: Word) -> UnsafeMutablePointer<UInt32> { words + word.rawValue }

    /// The number of the job in the upper half, the next item that nobody has begun in the lower one. Both change in one
    /// go, so that who comes late cannot take a piece of another job.
    private var turn: UnsafeMutablePointer<UInt64> {
        UnsafeMutableRawPointer(words + Word.turn.rawValue).assumingMemoryBound(to: UInt64.self)
    }

    /// Memory for the kernels of one thread.
    func scratch(_ thread: Int) -> UnsafeMutableRawPointer { scratches + thread * EBB_SCRATCH_BYTES }

    /// Has ``serve(as:)`` return.
    func stop() {
        ebb_atomic_store(word(.stop), 1)
        _ = ebb_atomic_add(word(.epoch), 1)
        ebb_futex_wake(word(.epoch), Int32.max)
        // One that is not active sleeps on this: any change will do.
        ebb_atomic_store(word(.active), UInt32.max)
        ebb_futex_wake(word(.active), Int32.max)
    }

    /// How many threads do the next jobs, the caller included.
    func use(_ count: Int) {
        let count = min(max(count, 1), threads)
        guard count != active else { return }
        let isMore = count > active
        active = count
        ebb_atomic_store(word(.active), UInt32(count))
        if isMore { ebb_futex_wake(word(.active), Int32.max) }
    }

    /// As ``WorkerPool/run(items:grain:_:)``.
    func run(items: Int, grain: Int, _ body: (Range<Int>, Int) -> Void) {
        guard active > 1 else {
            // In the same pieces: what is computed must not depend on how busy the machine is.
            for first in stride(from: 0, to: items, by: grain) { body(first..<min(first + grain, items), 0) }
            return
        }
        let start = ebb_seconds()
        let (mine, end) = withoutActuallyEscaping(body) { fork(Job(body: $0, items: items, grain: grain)) }
        if mine > 0 { secondsSaved += (end - start) * Double(items) / Double(mine) - (ebb_seconds() - start) }
    }

    /// - Returns: the items that the caller did itself, and when it had done them.
    private func fork(_ job: Job) -> (items: Int, end: Double) {
        let number = (ebb_atomic_load64(turn) >> 32 &+ 1) << 32
        // Shut: nothing can be begun while the job is written.
        ebb_atomic_store64(turn, number | 0xffff_ffff)
        self.job = job
        ebb_atomic_store(word(.items), UInt32(job.items))
        ebb_atomic_store(word(.grain), UInt32(job.grain))
        ebb_atomic_store(word(.done), 0)
        ebb_atomic_store64(turn, number)
        _ = ebb_atomic_add(word(.epoch), 1)
        if ebb_atomic_load(word(.sleepers)) > 0 {
            let others = (job.items - 1) / job.grain
            ebb_futex_wake(word(.epoch), Int32(min(others, threads - 1)))
        }
        let mine = claim(thread: 0)
        let end = ebb_seconds()
        join(UInt32(job.items))
        self.job = nil
        return (mine, end)
    }

    /// Waits until pieces that others have begun are done.
    private func join(_ items: UInt32) {
        guard !wait(while: { ebb_atomic_load(self.word(.done)) != items }) else { return }
        ebb_atomic_store(word(.joiner), 1)
        while true {
            let done = ebb_atomic_load(word(.done))
            if done == items { break }
            ebb_futex_wait(word(.done), done)
        }
        ebb_atomic_store(word(.joiner), 0)
    }

    /// Spins for a moment; false where the condition has held all along.
    private func wait(while condition: () -> Bool) -> Bool {
        var start = 0.0
        while true {
            for _ in 0..<32 {
                if !condition() { return true }
                ebb_cpu_relax()
            }
            let now = ebb_seconds()
            if start == 0 { start = now }
            if now - start > Self.patience { return false }
        }
    }

    /// Does pieces until none is left.
    /// - Returns: the items of its pieces.
    @discardableResult
    private func claim(thread: Int) -> Int {
        var mine = 0
        while true {
            let turn = ebb_atomic_load64(turn)
            let (items, grain) = (ebb_atomic_load(word(.items)), ebb_atomic_load(word(.grain)))
            let next = UInt32(truncatingIfNeeded: turn)
            guard next < items else { return mine }
            guard ebb_atomic_replace64(self.turn, turn, turn + UInt64(grain)) else { continue }
            let end = min(next + grain, items)
            job?.body(Int(next)..<Int(end), thread)
            mine += Int(end - next)
            let done = ebb_atomic_add(word(.done), end - next) + (end - next)
            if done == items, ebb_atomic_load(word(.joiner)) != 0 { ebb_futex_wake(word(.done), 1) }
        }
    }

    /// What a worker does all its life: pieces of the jobs that come.
    func serve(as thread: Int) {
        var seen: UInt32 = 0
        while true {
            while !wait(while: { ebb_atomic_load(self.word(.epoch)) == seen }) {
                _ = ebb_atomic_add(word(.sleepers), 1)
                ebb_futex_wait(word(.epoch), seen)
                _ = ebb_atomic_add(word(.sleepers), UInt32.max)  // minus one
            }
            seen = ebb_atomic_load(word(.epoch))
            if ebb_atomic_load(word(.stop)) != 0 { return }
            // One that is not worth it keeps out of the way of the others' wake-ups.
            let active = ebb_atomic_load(word(.active))
            if thread < Int(active) { claim(thread: thread) } else { ebb_futex_wait(word(.active), active) }
        }
    }
}
