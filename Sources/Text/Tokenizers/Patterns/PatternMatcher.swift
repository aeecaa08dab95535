import Synchronization

/// Finds a pattern's matches in UTF-8, in time that grows with the text.
///
/// @unchecked Sendable: the tables are never written after the initializer.
final class PatternMatcher: @unchecked Sendable {
    private let steps: UnsafeMutableBufferPointer<Int32>
    private let pages: UnsafeMutableBufferPointer<UInt8>
    private let pageIndex: UnsafeMutableBufferPointer<UInt16>
    /// Classes and the end.
    private let stride: Int

    /// - Throws: ``TextError`` that names what is not supported.
    init(_ pattern: String) throws(TextError) {
        let automaton = try PatternAutomaton(try PatternProgram(try PatternParser.parse(pattern)))
        func copy<T: BitwiseCopyable>(_ values: [T]) -> UnsafeMutableBufferPointer<T> {
            let memory = UnsafeMutableBufferPointer<T>.allocate(capacity: values.count)
            _ = memory.initialize(from: values)
            return memory
        }
        steps = copy(automaton.steps)
        pages = copy(automaton.classes.pages)
        pageIndex = copy(automaton.classes.pageIndex)
        stride = automaton.classes.count + 1
    }

    deinit {
        steps.deallocate()
        pages.deallocate()
        pageIndex.deallocate()
    }

    private static let known = Mutex<[String: PatternMatcher]>([:])
    private static let knownLimit = 256

    /// The matcher of a pattern, made once in a process.
    static func shared(_ pattern: String) throws(TextError) -> PatternMatcher {
        if let matcher = known.withLock({ $0[pattern] }) { return matcher }
        let matcher = try PatternMatcher(pattern)
        return known.withLock { known in
            if let other = known[pattern] { return other }
            if known.count < knownLimit { known[pattern] = matcher }
            return matcher
        }
    }

    /// The class of the scalar at `at`, and where the next one begins; at most at `end`.
    @inline(__always)
    private func look(_ bytes: UnsafeBufferPointer<UInt8>, _ at: Int, _ end: Int) -> (kind: Int, next: Int) {
        let lead = bytes[at]
        // The first page is the first that was made.
        if lead < 0x80 { return (Int(pages[Int(lead)]), at &+ 1) }
        let next = min(at &+ UTF8Text.length(lead), end)
        var value = Int(lead) & (lead < 0xe0 ? 0x1f : lead < 0xf0 ? 0x0f : 0x07)
        var place = at &+ 1
        while place < next {
            value = value << 6 | Int(bytes[place] & 0x3f)
            place &+= 1
        }
        // Bytes that are no UTF-8 may say more than there is.
        let page = value >> 8
        return (page < pageIndex.count ? Int(pages[Int(pageIndex[page]) << 8 | value & 0xff]) : 0, next)
    }

    /// States that were passed, at places behind the last match of a scan, to no avail: what makes the time linear where
    /// scans go far beyond their matches (Reps 1998).
    struct Failures {
        /// Scans that go less far are not remembered.
        static let least = 64
        fileprivate var start = 0
        fileprivate var states: [Int32] = []

        /// They hold for one piece of text.
        mutating func forget() {
            if !states.isEmpty { states.removeAll(keepingCapacity: true) }
        }

        @inline(__always)
        fileprivate func holds(_ at: Int, _ state: Int32) -> Bool {
            at >= start && at - start < states.count && states[at - start] == state
        }
    }

    /// Where the match ends that begins at `at`; `at` itself where there is none.
    @inline(__always)
    func matchEnd(_ bytes: UnsafeBufferPointer<UInt8>, _ at: Int, _ end: Int, _ failures: inout Failures) -> Int {
        var (place, last) = (at, at)
        var (state, lastState): (Int32, Int32) = (1, 1)
        let isRemembered = !failures.states.isEmpty
        while true {
            let (kind, next) = place < end ? look(bytes, place, end) : (stride &- 1, end)
            let step = steps[Int(state) &* stride &+ kind]
            if step & 1 != 0 { (last, lastState) = (place, state) }
            state = step >> 1
            if state == 0 || place >= end { break }
            place = next
            if isRemembered, failures.holds(place, state) { break }
        }
        if place - last > Failures.least { remember(bytes, last..<place, end, lastState, &failures) }
        return last
    }

    /// Walks again where a scan has found nothing more.
    private func remember(
        _ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ end: Int, _ state: Int32,
        _ failures: inout Failures
    ) {
        if failures.start + failures.states.count < range.lowerBound || failures.start > range.lowerBound {
            failures.states.removeAll(keepingCapacity: true)
        }
        if failures.states.isEmpty { failures.start = range.lowerBound }
        var (place, state) = (range.lowerBound, state)
        while place < range.upperBound {
            let (kind, next) = look(bytes, place, end)
            state = steps[Int(state) &* stride &+ kind] >> 1
            place = next
            let index = place - failures.start
            while failures.states.count <= index { failures.states.append(-1) }
            failures.states[index] = state
        }
    }

    /// The first match from `at` on; nil where there is none before `end`.
    @inline(__always)
    func next(
        _ bytes: UnsafeBufferPointer<UInt8>, _ at: Int, _ end: Int, _ failures: inout Failures
    ) -> Range<Int>? {
        var at = at
        while at < end {
            let (kind, next) = look(bytes, at, end)
            // Most places where nothing begins are known by their first scalar.
            if steps[stride &+ kind] > 1 {
                let stop = matchEnd(bytes, at, end, &failures)
                if stop > at { return at..<stop }
            }
            at = next
        }
        return nil
    }
}
