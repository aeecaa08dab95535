import CEbbSystem

/// Runs the pieces of a model's steps, each on as many threads as are worth it. One row waits for memory and many rows
/// compute, so steps learn by how many rows they have: those of few rows as a whole, those of many rows, which take long,
/// layer by layer.
///
/// Used by the engine thread alone.
package final class PieceThreads {
    private let pool: WorkerPool
    /// By the power of two of a step's rows.
    private var choices: [UsefulThreads]
    private static let powers = 10
    /// Rows from which on a step's layers are compared.
    private static let many = 32

    private var rows = 0
    private var choice = 0
    /// Of the step's pieces so far: seconds, and what they would have taken on one thread.
    private var (took, alone) = (0.0, 0.0)

    package init(_ pool: WorkerPool) {
        self.pool = pool
        choices = Array(repeating: UsefulThreads(most: pool.threads), count: Self.powers)
    }

    /// A step begins.
    package func begin(rows: Int) {
        self.rows = rows
        choice = min(Int.bitWidth - 1 - max(rows, 1).leadingZeroBitCount, Self.powers - 1)
        (took, alone) = (0, 0)
        pool.use(choices[choice].active)
    }

    /// Runs a piece of the step.
    /// - Parameter isLayer: whether the piece is like the step's others.
    package func run(isLayer: Bool, _ body: () throws -> Void) rethrows {
        guard pool.threads > 1 else { return try body() }
        let (start, saved) = (ebb_seconds(), pool.secondsSaved)
        try body()
        let took = ebb_seconds() - start
        let alone = took + pool.secondsSaved - saved
        if rows < Self.many {
            self.took += took
            self.alone += alone
        } else if isLayer {
            choices[choice].note(took: took, alone: alone, rows: rows)
            pool.use(choices[choice].active)
        }
    }

    /// The step has ended.
    package func end() {
        if took > 0 { choices[choice].note(took: took, alone: alone, rows: rows) }
        choices[choice].endStep()
    }
}
