/// Blocks of running sequences turn int8, some after each step.
struct KVCompaction {
    /// Blocks that turn int8 after a step: some tenths of a millisecond.
    private static let piece = 16
    /// Blocks that have turned since the work began, by model.
    private var turned: [ObjectIdentifier: Int] = [:]

    /// Does a piece for each model.
    /// - Returns: models for which all is done now that can be, with the blocks that it was.
    mutating func advance(_ models: [HostedModel]) -> [(model: HostedModel, blocks: Int)] {
        var done: [(HostedModel, Int)] = []
        for model in models {
            let key = ObjectIdentifier(model)
            let count = model.compactKV(blocks: Self.piece)
            turned[key, default: 0] += count
            guard count < Self.piece, let blocks = turned.removeValue(forKey: key), blocks > 0 else { continue }
            done.append((model, blocks))
        }
        return done
    }

    mutating func forget(_ model: HostedModel) { turned[ObjectIdentifier(model)] = nil }
}
