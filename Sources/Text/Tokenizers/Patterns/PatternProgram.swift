/// A pattern as instructions of a nondeterministic automaton (Thompson 1968), whose branches have an order (Pike; Cox 2007).
struct PatternProgram {
    enum Instruction {
        /// Takes a scalar of this set and goes on with the next instruction.
        case take(set: Int)
        /// Takes nothing; what follows must be in this set, or the end.
        case look(set: Int, allowsEnd: Bool)
        /// Tries the first place, then the second.
        case split(Int, Int)
        case jump(Int)
        case match
    }

    private(set) var instructions: [Instruction] = []
    private(set) var sets: [ScalarSet] = []
    private var numbers: [ScalarSet: Int] = [:]

    private var nodes = 0

    private static let limit = 1 << 14

    init(_ node: PatternNode) throws(TextError) {
        try append(node)
        instructions.append(.match)
    }

    private mutating func number(_ set: ScalarSet) -> Int {
        if let known = numbers[set] { return known }
        numbers[set] = sets.count
        sets.append(set)
        return sets.count - 1
    }

    private mutating func append(_ node: PatternNode) throws(TextError) {
        nodes += 1
        guard max(instructions.count, nodes / 4) < Self.limit else {
            throw TextError("a pattern of the tokenizer is too long")
        }
        switch node {
        case .scalar(let set): instructions.append(.take(set: number(set)))
        case .look(let set, let allowsEnd): instructions.append(.look(set: number(set), allowsEnd: allowsEnd))
        case .sequence(let parts): for part in parts { try append(part) }
        case .choice(let parts): try append(choice: parts)
        case .repeated(let part, let min, let max, let isLazy):
            for _ in 0..<min { try append(part) }
            if let max {
                for _ in min..<max { try appendOptional(part, isLazy) }
            } else {
                try appendLoop(part, isLazy)
            }
        }
    }

    private mutating func append(choice parts: [PatternNode]) throws(TextError) {
        var jumps: [Int] = []
        for (index, part) in parts.enumerated() {
            guard index < parts.count - 1 else {
                try append(part)
                break
            }
            let split = instructions.count
            instructions.append(.match)
            try append(part)
            jumps.append(instructions.count)
            instructions.append(.match)
            instructions[split] = .split(split + 1, instructions.count)
        }
        for jump in jumps { instructions[jump] = .jump(instructions.count) }
    }

    /// `part?`; several in a row may each be left out, which is what bounds mean where the part takes something.
    private mutating func appendOptional(_ part: PatternNode, _ isLazy: Bool) throws(TextError) {
        let split = instructions.count
        instructions.append(.match)
        try append(part)
        let after = instructions.count
        instructions[split] = isLazy ? .split(after, split + 1) : .split(split + 1, after)
    }

    private mutating func appendLoop(_ part: PatternNode, _ isLazy: Bool) throws(TextError) {
        let split = instructions.count
        instructions.append(.match)
        try append(part)
        instructions.append(.jump(split))
        let after = instructions.count
        instructions[split] = isLazy ? .split(after, split + 1) : .split(split + 1, after)
    }
}
