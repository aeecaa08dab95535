/// A tokenizer's pattern, parsed.
indirect enum PatternNode: Sendable {
    /// One scalar of a set.
    case scalar(ScalarSet)
    case sequence([PatternNode])
    /// The first that leads to a match, as alternatives of regular expressions do.
    case choice([PatternNode])
    case repeated(PatternNode, min: Int, max: Int?, isLazy: Bool)
    /// Nothing is taken; what follows must be one of these scalars, or the end where that is allowed.
    case look(ScalarSet, allowsEnd: Bool)

    static let empty = PatternNode.sequence([])

    /// The set that this stands for where it takes exactly one scalar.
    var single: ScalarSet? {
        switch self {
        case .scalar(let set): return set
        case .sequence(let parts): return parts.count == 1 ? parts[0].single : nil
        case .choice(let parts):
            let sets = parts.compactMap(\.single)
            return sets.count == parts.count ? ScalarSet(sets.flatMap(\.ranges)) : nil
        case .repeated(let part, 1, 1, _): return part.single
        default: return nil
        }
    }

    /// Whether it may match without taking anything.
    var mayBeEmpty: Bool {
        switch self {
        case .scalar: false
        case .look: true
        case .sequence(let parts): parts.allSatisfy(\.mayBeEmpty)
        case .choice(let parts): parts.contains(where: \.mayBeEmpty)
        case .repeated(let part, let min, _, _): min == 0 || part.mayBeEmpty
        }
    }

    /// A repetition that gives nothing back: of single scalars, it ends where none follows or there are enough.
    static func possessive(_ set: ScalarSet, min: Int, max: Int?) -> PatternNode {
        let stop = PatternNode.look(set.inverted, allowsEnd: true)
        guard let max else {
            return .sequence([.repeated(.scalar(set), min: min, max: nil, isLazy: false), stop])
        }
        let full = PatternNode.repeated(.scalar(set), min: max, max: max, isLazy: false)
        guard max > min else { return full }
        return .choice([
            full, .sequence([.repeated(.scalar(set), min: min, max: max - 1, isLazy: false), stop]),
        ])
    }
}
