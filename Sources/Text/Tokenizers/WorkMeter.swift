/// Counts the work that is done for someone, and asks now and then whether it is still wanted.
struct WorkMeter {
    /// Units of work between two questions: bytes read, places tried, merges made.
    static let interval = 4096

    private let isCancelled: () -> Bool
    private var left = interval

    init(isCancelled: @escaping () -> Bool) { self.isCancelled = isCancelled }

    /// Says that so much has been done.
    @inline(__always)
    mutating func add(_ units: Int) throws(CancellationError) {
        left &-= units
        if left <= 0 { try ask() }
    }

    private mutating func ask() throws(CancellationError) {
        // A long stretch that was added at once is asked for once an interval, so that questions measure the work.
        while left <= 0 {
            left &+= Self.interval
            if isCancelled() { throw CancellationError() }
        }
    }
}
