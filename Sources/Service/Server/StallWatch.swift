import NIOCore
import Synchronization

/// Looks now and then at something that could stall, as long as it could: nothing is looked at, and nothing wakes, while
/// all is quiet.
final class StallWatch: Sendable {
    private let loop: any EventLoop
    private let period: TimeAmount
    private let look: @Sendable () -> Bool
    private let isLooking = Atomic<Bool>(false)

    /// - Parameters:
    ///   - period: seconds between two looks.
    ///   - look: called on the event loop; says whether something could still stall.
    init(_ loop: any EventLoop, period: Double, look: @escaping @Sendable () -> Bool) {
        self.loop = loop
        self.period = .milliseconds(Int64(period * 1000))
        self.look = look
    }

    /// Something has begun that could stall. From any thread.
    func start() {
        if !isLooking.exchange(true, ordering: .sequentiallyConsistent) { lookLater() }
    }

    private func lookLater() {
        loop.scheduleTask(in: period) { [weak self] in
            guard let self else { return }
            if self.look() { return self.lookLater() }
            self.isLooking.store(false, ordering: .sequentiallyConsistent)
            // What began meanwhile, and was not seen.
            if self.look() { self.start() }
        }
    }
}
