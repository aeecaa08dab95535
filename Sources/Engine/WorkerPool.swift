import CEbbSystem
import CKernels
import Glibc

/// The threads that a step's arithmetic runs on: the caller and `threads - 1` workers. Work is handed out by fork and
/// join; workers spin for a moment between two forks, since a token has hundreds of them, and then sleep.
public final class WorkerPool: Sendable {
    public let threads: Int
    private let shared: Shared
    private let handles: [pthread_t]

    /// One for each core that is online.
    public static var defaultThreads: Int { max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) }

    /// - Parameter threads: at least 1.
    public init(threads: Int) throws {
        self.threads = max(1, threads)
        shared = Shared(threads: self.threads)
        var handles: [pthread_t] = []
        for thread in 1..<self.threads { handles.append(try Self.start(thread, shared)) }
        self.handles = handles
    }

    deinit {
        shared.stop()
        for handle in handles { pthread_join(handle, nil) }
    }

    /// Scratch for kernels, one for each thread.
    func scratch(_ thread: Int) -> UnsafeMutableRawPointer { shared.scratch(thread) }

    /// Calls `body` with ranges of `grain` items until all `items` are done; returns when they are. `body` also gets
    /// the number of the thread it runs on. Only one thread may call this at a time.
    func run(items: Int, grain: Int, _ body: (Range<Int>, Int) -> Void) {
        guard threads > 1, items > grain else {
            if items > 0 { body(0..<items, 0) }
            return
        }
        withoutActuallyEscaping(body) { body in
            shared.run(Shared.Job(body: body, items: items, grain: grain))
        }
    }

    private final class Start {
        let shared: Shared
        let thread: Int
        init(_ shared: Shared, _ thread: Int) { (self.shared, self.thread) = (shared, thread) }
    }

    private static func start(_ thread: Int, _ shared: Shared) throws -> pthread_t {
        let start = Unmanaged.passRetained(Start(shared, thread))
        var handle = pthread_t()
        let code = pthread_create(
            &handle, nil,
            { raw in
                guard let raw else { return nil }
                ebb_name_thread("ebb.worker")
                let start = Unmanaged<Start>.fromOpaque(raw).takeRetainedValue()
                start.shared.work(as: start.thread)
                return nil
            }, start.toOpaque())
        guard code == 0 else {
            start.release()
            throw EngineError(.resources, "cannot start a worker thread (error \(code))")
        }
        return handle
    }
}

/// What the threads of a pool share.
///
/// @unchecked Sendable: `job` is written by the one caller of `run` before it raises the epoch, and read by workers
/// after they have seen it raised and before they lower `pending`; the words are atomics.
private final class Shared: @unchecked Sendable {
    struct Job {
        let body: (Range<Int>, Int) -> Void
        let items: Int
        let grain: Int
    }

    /// Each word has a cache line of its own.
    private enum Word: Int {
        case epoch = 0, pending = 16, next = 32, sleepers = 48, stop = 64
        static let capacity = 80
    }

    /// Pauses before a waiting thread sleeps: some hundred microseconds, longer than sampling a token takes.
    private static let spins = 20_000

    private let threads: Int
    private let words: UnsafeMutablePointer<UInt32>
    private let scratches: UnsafeMutableRawPointer
    private var job: Job?

    init(threads: Int) {
        self.threads = threads
        words = .allocate(capacity: Word.capacity)
        words.initialize(repeating: 0, count: Word.capacity)
        scratches = .allocate(byteCount: threads * EBB_SCRATCH_BYTES, alignment: 64)
    }

    deinit {
        words.deallocate()
        scratches.deallocate()
    }

    private func word(_ word: Word) -> UnsafeMutablePointer<UInt32> { words + word.rawValue }

    func scratch(_ thread: Int) -> UnsafeMutableRawPointer { scratches + thread * EBB_SCRATCH_BYTES }

    func stop() {
        ebb_atomic_store(word(.stop), 1)
        _ = ebb_atomic_add(word(.epoch), 1)
        ebb_futex_wake(word(.epoch), Int32.max)
    }

    func run(_ job: Job) {
        self.job = job
        ebb_atomic_store(word(.next), 0)
        ebb_atomic_store(word(.pending), UInt32(threads - 1))
        _ = ebb_atomic_add(word(.epoch), 1)
        if ebb_atomic_load(word(.sleepers)) > 0 { ebb_futex_wake(word(.epoch), Int32.max) }
        claim(job, thread: 0)
        var waited = 0
        while ebb_atomic_load(word(.pending)) != 0 {
            ebb_cpu_relax()
            waited += 1
            if waited % Self.spins == 0 { sched_yield() }
        }
        self.job = nil
    }

    private func claim(_ job: Job, thread: Int) {
        while true {
            let start = Int(ebb_atomic_add(word(.next), UInt32(job.grain)))
            guard start < job.items else { return }
            job.body(start..<min(start + job.grain, job.items), thread)
        }
    }

    func work(as thread: Int) {
        var seen: UInt32 = 0
        while true {
            var spins = 0
            while ebb_atomic_load(word(.epoch)) == seen {
                spins += 1
                guard spins >= Self.spins else {
                    ebb_cpu_relax()
                    continue
                }
                _ = ebb_atomic_add(word(.sleepers), 1)
                ebb_futex_wait(word(.epoch), seen)
                _ = ebb_atomic_add(word(.sleepers), UInt32.max)  // minus one
            }
            seen &+= 1
            if ebb_atomic_load(word(.stop)) != 0 { return }
            if let job { claim(job, thread: thread) }
            _ = ebb_atomic_add(word(.pending), UInt32.max)  // minus one
        }
    }
}
