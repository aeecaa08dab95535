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

/// Gives free pages of the heap back after a burst: soon after it was told of one, and when it finds by itself that
/// there is more free than there was. On a queue of its own, since malloc waits meanwhile; not more often than once a
/// second.
final class HeapTrimmer: Sendable {
    /// Bytes of a burst below which nobody needs to tell.
    static let worthwhile = 1 << 20

    private let queue = DispatchQueue(label: "ebb.heap", qos: .utility)
    private let isWaiting = Atomic<Bool>(false)
    private let unusedThen = Atomic<Int>(0)

    private static let change = 8 << 20

    init() { lookLater() }

    private func lookLater() {
        queue.asyncAfter(deadline: .now() + 5) { [weak self] in
            self?.look()
            self?.lookLater()
        }
    }

    func trimSoon() {
        guard !isWaiting.exchange(true, ordering: .relaxed) else { return }
        queue.asyncAfter(deadline: .now() + 1) { [weak self] in
            self?.isWaiting.store(false, ordering: .relaxed)
            self?.trim()
        }
    }

    private func look() {
        let unused = HeapUse.now().unused
        if abs(unused - unusedThen.load(ordering: .relaxed)) > Self.change { trim() }
    }

    private func trim() {
        ebb_heap_trim()
        unusedThen.store(HeapUse.now().unused, ordering: .relaxed)
    }
}
