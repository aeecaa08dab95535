/// A pattern as a deterministic automaton over classes of scalars, made whole, of bounded size. A state is an ordered list
/// of places in the program; what is behind a place that has matched is cut off, so that the match is the one that
/// backtracking would find. Since look-aheads want to know what follows, a step says whether a match ends before the
/// scalar that it reads.
struct PatternAutomaton {
    /// For each state and class (the last one stands for the end): the next state, times two, and one where a match ends
    /// before that scalar. State 0 is dead, state 1 the start.
    private(set) var steps: [Int32] = []
    let classes: ScalarClasses

    private let program: PatternProgram
    private var numbers: [[Int32]: Int32] = [:]
    private var states: [[Int32]] = []
    private var seen: [Int]
    private var round = 0
    private var work = 0

    private static let stateLimit = 4096
    /// Instructions looked at in all, so that a hostile pattern costs no more than a moment.
    private static let workLimit = 20_000_000

    init(_ program: PatternProgram) throws(TextError) {
        self.program = program
        classes = try ScalarClasses(program.sets)
        seen = Array(repeating: 0, count: program.instructions.count * 2)
        _ = try number([])
        _ = try number([0])
        var state = 0
        while state < states.count {
            for kind in 0...classes.count { try steps.append(step(states[state], kind)) }
            state += 1
        }
    }

    private mutating func number(_ places: [Int32]) throws(TextError) -> Int32 {
        if let known = numbers[places] { return known }
        guard states.count < Self.stateLimit else { throw TextError("a pattern of the tokenizer is too complex") }
        let number = Int32(states.count)
        numbers[places] = number
        states.append(places)
        return number
    }

    /// What follows from a state when a scalar of this class, or the end, comes next.
    private mutating func step(_ places: [Int32], _ kind: Int) throws(TextError) -> Int32 {
        round += 1
        var stack = Array(places.reversed())
        var next: [Int32] = []
        var isMatch = false
        let (isEnd, count) = (kind == classes.count, program.instructions.count)
        while let place = stack.popLast() {
            work += 1
            guard work < Self.workLimit else { throw TextError("a pattern of the tokenizer is too complex") }
            let at = Int(place)
            if seen[at] == round { continue }
            seen[at] = round
            switch program.instructions[at] {
            case .match: isMatch = true
            case .jump(let target): stack.append(Int32(target))
            case .split(let first, let second): stack += [Int32(second), Int32(first)]
            case .look(let set, let allowsEnd):
                if isEnd ? allowsEnd : classes.members[kind][set] { stack.append(place + 1) }
            case .take(let set):
                if !isEnd, classes.members[kind][set], seen[count + at + 1] != round {
                    seen[count + at + 1] = round
                    next.append(place + 1)
                }
            }
            if isMatch { break }
        }
        return try number(next) * 2 + (isMatch ? 1 : 0)
    }
}
