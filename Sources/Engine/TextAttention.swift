import CKernels

/// The attention of a decoder's rows over whole texts, as a decoder that embeds has it: nothing is cached.
///
/// Used by one thread at a time.
final class TextAttention: RowAttention, StepAttention {
    /// Whether a token sees those after it, too. A window then lies half on each side of it.
    private let seesBothSides: Bool
    private let heads: EncoderAttention

    init(
        config: DecoderConfig, seesBothSides: Bool, _ heads: EncoderAttention, kernels: Kernels, pool: WorkerPool,
        _ buffers: Buffers, in workspace: Workspace
    ) {
        (self.seesBothSides, self.heads) = (seesBothSides, heads)
        super.init(config: config, kernels: kernels, pool: pool, buffers, in: workspace)
    }

    private func reach(_ window: Int) -> EncoderAttention.Reach {
        guard window > 0 else { return seesBothSides ? .all : .init(before: .max, after: 0) }
        return seesBothSides ? .init(before: window / 2, after: window / 2) : .init(before: window - 1, after: 0)
    }

    func attend(_ a: Attention) {
        let scale = a.scale ?? 1 / Float(config.headDim).squareRoot()
        let turn = turn(of: a)
        let rows = sources.last.map { $0.firstRow + $0.count } ?? 0
        let (width, keyWidth, dim) = (config.queryWidth, config.keyWidth, config.headDim)
        pool.run(items: rows, grain: 16) { range, _ in
            for row in range {
                prepare(row, a, turn)
                for i in row * width..<(row + 1) * width { q[i] *= scale }
            }
        }
        let (reach, group) = (reach(a.window), config.heads / config.kvHeads)
        pool.run(items: sources.count * config.heads, grain: 1) { range, thread in
            for item in range {
                let (source, head) = (sources[item / config.heads], item % config.heads)
                let query = source.firstRow * width + head * dim
                let key = source.firstRow * keyWidth + head / group * dim
                let view = EncoderAttention.Head(
                    query: q + query, key: k + key, value: v + key, queryStride: width, keyStride: keyWidth,
                    out: attended + query, tokens: source.count, reach: reach, softcap: a.softcap,
                    sink: a.sinks?[head])
                heads.run(view, inBf16: !a.isExact, thread: thread, scratch: pool.scratch(thread))
            }
        }
    }
}
