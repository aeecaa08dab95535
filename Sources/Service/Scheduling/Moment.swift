import Synchronization

/// A moment that one thread sets and others read: monotonic seconds.
final class Moment: Sendable {
    private let bits = Atomic<UInt64>(0)

    var at: Double {
        get { Double(bitPattern: bits.load(ordering: .acquiring)) }
        set { bits.store(newValue.bitPattern, ordering: .releasing) }
    }
}
