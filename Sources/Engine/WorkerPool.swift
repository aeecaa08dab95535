import CEbbSystem
import CKernels
import Glibc

/// The threads that a step's arithmetic runs on: the caller and `threads - 1` workers. Work is handed out by fork and
/// join; workers spin for a moment between two forks, since a token has hundreds of them, and then sleep. Other programs
/// may have some of the cores: see ``ForkJoin``, and ``PieceThreads`` for how many are used.
public final class WorkerPool: Sendable {
    public let threads: Int
    private let work: ForkJoin
    private let handles: [pthread_t]

    /// One for each performance core that the process may use, within its control groups' quota: ``Processors/threads``.
    /// None is bound to a core: where other programs are, the kernel finds the free ones.
    public static var defaultThreads: Int { ProcessorFiles().read().threads }

    /// - Parameter threads: at least 1.
    public init(threads: Int) throws {
        self.threads = max(1, threads)
        work = ForkJoin(threads: self.threads)
        var handles: [pthread_t] = []
        for thread in 1..<self.threads { handles.append(try Self.start(thread, work)) }
        self.handles = handles
    }

    deinit {
        work.stop()
        for handle in handles { pthread_join(handle, nil) }
    }

    /// Scratch for kernels, one for each thread.
    package func scratch(_ thread: Int) -> UnsafeMutableRawPointer { work.scratch(thread) }

    /// Calls `body` with ranges of `grain` items until all `items` are done; returns when they are. `body` also gets
    /// the number of the thread it runs on. Only one thread may call this at a time.
    package func run(items: Int, grain: Int, _ body: (Range<Int>, Int) -> Void) {
        guard threads > 1, items > grain, items <= Int(Int32.max) - grain else {
            if items > 0 { body(0..<items, 0) }
            return
        }
        work.run(items: items, grain: grain, body)
    }

    /// How many threads do what is run from now on, the caller included. Only who calls ``run(items:grain:_:)`` may.
    func use(_ count: Int) { work.use(count) }

    /// What ``use(_:)`` has set.
    var active: Int { work.active }

    /// Seconds that everything has taken less so far than it would have on the caller alone, as far as the caller's share
    /// tells; for who calls ``run(items:grain:_:)``.
    var secondsSaved: Double { work.secondsSaved }

    private final class Start {
        let work: ForkJoin
        let thread: Int
        init(_ work: ForkJoin, _ thread: Int) { (self.work, self.thread) = (work, thread) }
    }

    private static func start(_ thread: Int, _ work: ForkJoin) throws -> pthread_t {
        let start = Unmanaged.passRetained(Start(work, thread))
        var handle = pthread_t()
        let code = pthread_create(
            &handle, nil,
            { raw in
                guard let raw else { return nil }
                ebb_name_thread("ebb.worker")
                let start = Unmanaged<Start>.fromOpaque(raw).takeRetainedValue()
                start.work.serve(as: start.thread)
                return nil
            }, start.toOpaque())
        guard code == 0 else {
            start.release()
            throw EngineError(.resources, "cannot start a worker thread (error \(code))")
        }
        return handle
    }
}
