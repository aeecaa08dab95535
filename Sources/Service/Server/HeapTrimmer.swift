import CEbbSystem
import Dispatch
import Synchronization

/// The process's heap, as malloc counts it.
struct HeapUse: Sendable {
    /// Bytes in use.
    let used: Int
    /// Free bytes that malloc keeps; those of pages that were given back are among them.
    let unused: Int

    static func now() -> HeapUse {
        var (used, unused) = (0, 0)
        ebb_heap_use(&used, &unused)
        return HeapUse(used: used, unused: unused)
    }
}

/// Gives free pages of the heap back after a burst: soon after it was told of one, and when it finds, while requests run
/// and after the last of them, that the process takes another amount than after the last time. What malloc has free does
/// not say so: it counts pages that were given back with those that are in use again. On a queue of its own, since malloc
/// waits meanwhile; not more often than once a second.
final class HeapTrimmer: Sendable {
    /// Bytes below which it is not worth the walk.
    static let worthwhile = 1 << 20

    private let queue = DispatchQueue(label: "ebb.heap", qos: .utility)
    private let isWaiting = Atomic<Bool>(false)
    private let isLookingLater = Atomic<Bool>(false)
    /// Anonymous bytes of the process after the last time.
    private let anonymousThen = Atomic<Int>(0)

    /// While something goes on: some seconds from now, what was said in between counts once.
    func lookLater() {
        guard !isLookingLater.exchange(true, ordering: .relaxed) else { return }
        queue.asyncAfter(deadline: .now() + 5) { [weak self] in
            self?.isLookingLater.store(false, ordering: .relaxed)
            self?.look()
        }
    }

    /// After a burst.
    func trimSoon() { inASecond { $0.trim() } }

    /// Where memory is scarce.
    func lookSoon() { inASecond { $0.look() } }

    private func inASecond(_ work: @escaping @Sendable (HeapTrimmer) -> Void) {
        guard !isWaiting.exchange(true, ordering: .relaxed) else { return }
        queue.asyncAfter(deadline: .now() + 1) { [weak self] in
            guard let self else { return }
            self.isWaiting.store(false, ordering: .relaxed)
            work(self)
        }
    }

    private func look() {
        guard HeapUse.now().unused > Self.worthwhile, let memory = ProcessMemory.estimate() else { return }
        if abs(memory.anonymous - anonymousThen.load(ordering: .relaxed)) > Self.worthwhile { trim() }
    }

    private func trim() {
        ebb_heap_trim()
        if let memory = ProcessMemory.estimate() { anonymousThen.store(memory.anonymous, ordering: .relaxed) }
    }
}
