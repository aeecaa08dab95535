/// Whose turn it is among those who have work waiting: the one who has been served least. Who comes back from a pause
/// has no claim on what it did not use, and no advantage from having been away for a moment (start-time fair queueing).
/// Pure.
struct FairTurns<Key: Hashable> {
    private struct Share {
        /// What has been served up to its next turn.
        var start: Int
        var isWaiting: Bool
        /// When it joined: equal shares are served first come, first served.
        var order: Int
    }

    private var shares: [Key: Share] = [:]
    /// The start of the turn that was taken last.
    private var now = 0
    private var joined = 0

    init() {}

    /// One of them has work.
    mutating func join(_ key: Key) {
        var share = shares[key] ?? Share(start: now, isWaiting: false, order: 0)
        guard !share.isWaiting else { return }
        joined &+= 1
        (share.start, share.isWaiting, share.order) = (max(now, share.start), true, joined)
        shares[key] = share
    }

    /// One of them has no work any more.
    mutating func leave(_ key: Key) {
        shares[key]?.isWaiting = false
        // Those whose share is used up are as good as new.
        for (key, share) in shares where !share.isWaiting && share.start <= now { shares[key] = nil }
    }

    /// Whose turn it is; nil where nobody waits.
    var next: Key? {
        shares.lazy.filter(\.value.isWaiting).min {
            ($0.value.start, $0.value.order) < ($1.value.start, $1.value.order)
        }?.key
    }

    /// One of them is served.
    mutating func serve(_ key: Key, cost: Int) {
        guard let share = shares[key] else { return }
        now = max(now, share.start)
        joined &+= 1
        shares[key]?.start = share.start &+ max(1, cost)
        shares[key]?.order = joined
    }
}
