import Glibc

/// How many of a pool's threads are worth their cores just now, for pieces of work that are all alike, such as a model's
/// layers. Beside other programs a thread that does not run when a piece of work is its own holds all others up: then
/// fewer are faster. Also where the work is too small to be shared, where memory is as fast as it gets, or where two of the
/// machine's processors are one core.
///
/// Numbers of threads are compared by the time that they take for the same work, in turns within some hundredths of a
/// second, so that what else changes changes both. When to compare is told by the share of the work that the caller did
/// itself (fewer, at once), and else by a pause that grows while nothing better is found. Pure: seconds in, a number of
/// threads out.
package struct UsefulThreads {
    package let most: Int
    /// Threads for the next piece.
    package private(set) var active: Int
    /// Threads that have proved best so far.
    private var best: Int
    private var trial: Trial?
    /// Whether the next comparison is with fewer.
    private var looksDown = true
    /// Seconds of work since the last comparison, and until the next one: by itself, or when threads seem to be wasted.
    private var worked = 0.0
    private var pause = Self.first
    private var pauseOfWaste = Self.first
    /// Of the pieces in the present window, seconds: what they took, and what they would have taken alone.
    private var (took, alone) = (0.0, 0.0)

    /// Seconds of work that are judged together: longer than the time slice that another program takes away.
    private static let window = 0.02
    private static let (first, shortest, longest) = (0.02, 0.2, 5.0)

    package init(most: Int) {
        self.most = most
        (active, best) = (most, most)
    }

    /// Notes a piece of work on ``active`` threads.
    /// - Parameters:
    ///   - took: its seconds.
    ///   - alone: what it would have taken on one thread, by the caller's share of it.
    ///   - rows: what its time depends on: only pieces of as many rows are compared.
    package mutating func note(took: Double, alone: Double, rows: Int) {
        guard most > 1 else { return }
        if trial != nil { compare(took: took, rows: rows) } else { watch(took: took, alone: alone, rows: rows) }
    }

    private mutating func watch(took: Double, alone: Double, rows: Int) {
        worked += took
        self.took += took
        self.alone += alone
        guard self.took >= Self.window else { return }
        // Half as many would do as well if they shared the work as they should.
        let isWasted = best > 1 && self.alone < self.took * Double(best) / 2 * 1.05
        (self.took, self.alone) = (0, 0)
        if isWasted, worked >= pauseOfWaste {
            trial = Trial(candidate: best / 2, rows: rows, isForWaste: true)
        } else if worked >= pause {
            if looksDown ? best == 1 : best == most { looksDown.toggle() }
            let candidate = looksDown ? Self.rung(below: best) : min(Self.rung(above: best), most)
            trial = Trial(candidate: candidate, rows: rows, isForWaste: false)
        }
    }

    // MARK: Comparing

    private struct Trial {
        let candidate: Int
        let rows: Int
        /// Whether threads seemed to be wasted.
        let isForWaste: Bool
        /// A quarter is a stretch with one number of threads: the best so far, the candidate twice, the best so far, so
        /// that what slowly changes, such as the length of the context, counts for both alike.
        var quarters = 0
        var inQuarter = 0.0
        var seconds = 0.0
        /// Of this round.
        var best = Mean()
        var candidates = Mean()
        /// Of the rounds that have ended: natural logarithms of ``ratio``.
        var logarithms: [Double] = []

        var isCandidates: Bool { quarters % 4 == 1 || quarters % 4 == 2 }
        /// Seconds for a piece with the candidate, over those with the best so far.
        var ratio: Double { candidates.value / best.value }

        mutating func endRound() {
            logarithms.append(log(max(ratio, 1e-3)))
            (best, candidates) = (Mean(), Mean())
        }
    }

    private struct Mean {
        var seconds = 0.0
        var pieces = 0.0
        var value: Double { seconds / max(pieces, 1) }
    }

    /// Seconds of a quarter, which ends with a step, since layers may differ; and of one that need not.
    private static let (quarter, longQuarter) = (0.008, 0.032)
    /// Rounds of four quarters, at most: as long as it may be chance.
    private static let rounds = 6
    /// A candidate that takes so many times as long need not be looked at twice.
    private static let hopeless = 2.0
    /// More threads must bring at least so much; fewer are welcome when they are as fast.
    private static let (worthwhile, asFast) = (0.97, 1.02)
    /// Comparisons take at most this share of the time.
    private static let share = 0.1

    private mutating func compare(took: Double, rows: Int) {
        guard var trial, trial.rows == rows else { return end() }
        if trial.isCandidates {
            trial.candidates.seconds += took
            trial.candidates.pieces += 1
        } else {
            trial.best.seconds += took
            trial.best.pieces += 1
        }
        trial.inQuarter += took
        self.trial = trial
        if trial.inQuarter >= Self.longQuarter { endQuarter(trial) }
    }

    /// The last piece of a step has been noted.
    package mutating func endStep() {
        if let trial, trial.inQuarter >= Self.quarter { endQuarter(trial) }
    }

    private mutating func endQuarter(_ ended: Trial) {
        var trial = ended
        trial.quarters += 1
        trial.seconds += trial.inQuarter
        trial.inQuarter = 0
        if trial.quarters == 2, trial.ratio > Self.hopeless { return settle(trial, isBetter: false) }
        if trial.quarters % 4 == 0 {
            trial.endRound()
            if let isBetter = verdict(trial) { return settle(trial, isBetter: isBetter) }
        }
        active = trial.isCandidates ? trial.candidate : best
        self.trial = trial
    }

    /// Whether the candidate is better, once chance would hardly have made it seem so: twice the standard error of the
    /// rounds' mean. nil while it is not clear.
    private func verdict(_ trial: Trial) -> Bool? {
        let mark = log(trial.candidate < best ? Self.asFast : Self.worthwhile)
        let count = Double(trial.logarithms.count)
        let mean = trial.logarithms.reduce(0, +) / count
        if trial.logarithms.count >= Self.rounds { return mean < mark }
        if trial.logarithms.count == 1 { return mean < -log(Self.hopeless) ? true : nil }
        let variance = trial.logarithms.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)
        return abs(mean - mark) > 2 * (variance / count).squareRoot() + 0.01 ? mean < mark : nil
    }

    private mutating func settle(_ trial: Trial, isBetter: Bool) {
        func longer(_ pause: Double) -> Double {
            let least = max(Self.shortest, trial.seconds / Self.share)
            return min(max(pause * 2, least), max(Self.longest, least))
        }
        if isBetter {
            looksDown = trial.candidate < best
            best = trial.candidate
            (pause, pauseOfWaste) = (Self.first, Self.first)
        } else if trial.isForWaste {
            pauseOfWaste = longer(pauseOfWaste)
        } else {
            looksDown.toggle()
            pause = longer(pause)
        }
        end()
    }

    private mutating func end() {
        trial = nil
        active = best
        worked = 0
        (took, alone) = (0, 0)
    }

    // MARK: Numbers that are compared

    /// 1, 2, 3, 4, 6, 8, 12, 16, ...
    private static func rung(above count: Int) -> Int {
        var rung = 1
        while rung <= count { rung = next(rung) }
        return rung
    }

    private static func rung(below count: Int) -> Int {
        var rung = 1
        while next(rung) < count { rung = next(rung) }
        return rung
    }

    private static func next(_ rung: Int) -> Int {
        let isPowerOfTwo = rung & (rung - 1) == 0
        return isPowerOfTwo ? max(rung + 1, rung + rung / 2) : (rung / 3) * 4
    }
}
