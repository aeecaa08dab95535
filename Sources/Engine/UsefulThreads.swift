/// How many of a pool's threads are worth their cores just now. Beside other programs a thread that does not run when a
/// piece of work is its own holds all others up: then fewer are faster. Also where the work is too small to be shared, or
/// memory is as fast as it gets.
///
/// What a fork would have taken on its caller alone is estimated from the share of the pieces that the caller did
/// meanwhile, so that nothing has to be tried to find that threads bring nothing; whether they would bring something again
/// is looked at now and then. Pure: seconds in, a number of threads out.
package struct UsefulThreads {
    package let most: Int
    package private(set) var active: Int
    /// Of the forks in the present window, seconds: what they took, and what they would have taken alone.
    private var (took, alone) = (0.0, 0.0)
    /// Seconds of work until more are looked at again.
    private var pause = Self.shortestPause
    private var worked = 0.0
    /// How many there were before the look that goes on.
    private var before: Int?

    /// Seconds of work that are judged together: longer than the time slice that another program takes away.
    private static let window = 0.02
    private static let (shortestPause, longestPause) = (0.2, 5.0)

    package init(most: Int) {
        self.most = most
        active = most
    }

    /// Notes a piece of work.
    /// - Parameters:
    ///   - took: its seconds.
    ///   - alone: what it would have taken on one thread, where it was shared; else `took`.
    package mutating func note(took: Double, alone: Double) {
        self.took += took
        self.alone += alone
        worked += took
        guard self.took >= Self.window else { return }
        judge()
        (self.took, self.alone) = (0, 0)
    }

    private mutating func judge() {
        // Half as many could do better if they share the work as they should.
        let isWasted = active > 1 && alone < took * Double(active) / 2 * 1.05
        if let before {
            self.before = nil
            pause = isWasted ? min(pause * 2, Self.longestPause) : Self.shortestPause
            if isWasted { active = before }
            worked = 0
        } else if isWasted {
            active /= 2
            worked = 0
        } else if active < most, worked >= pause {
            before = active
            active = min(most, active * 2)
        }
    }
}
