/// How often users may have models loaded by their requests. Pure.
package struct LoadRate {
    /// Loads of one user in a minute.
    package static let most = 8
    private static let span = 60.0

    private var starts: [UInt32: [Double]] = [:]

    package init() {}

    /// Counts a load.
    /// - Parameter now: monotonic seconds.
    /// - Returns: seconds until the user may; nil where the user may now.
    package mutating func admit(_ uid: UInt32, now: Double) -> Double? {
        for (uid, times) in starts {
            let recent = times.filter { now - $0 < Self.span }
            starts[uid] = recent.isEmpty ? nil : recent
        }
        let times = starts[uid] ?? []
        if times.count >= Self.most, let first = times.first { return first + Self.span - now }
        starts[uid] = times + [now]
        return nil
    }

    /// Takes a user's last load back: it came to nothing, since there is no such model.
    package mutating func forgive(_ uid: UInt32) { _ = starts[uid]?.popLast() }
}
