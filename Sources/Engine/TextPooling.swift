import CKernels
import Glibc

extension TextRows {
    /// What each text's rows become, [embeddingLength]; nil for what is no numbers. A reranker's embedding is one score.
    func pooled() -> [[Float]?] {
        guard let embeddings else { return slices.map { finished(pooled($0)) } }
        var from = embeddings.base.assumingMemoryBound(to: Float.self)
        var to = from + Self.rowsAtOnce * embeddingWidth
        let zeros = VectorRef(to + Self.rowsAtOnce * embeddingWidth)
        for (index, slice) in slices.enumerated() {
            pooled(slice).withUnsafeBufferPointer {
                if let base = $0.baseAddress { (from + index * config.hidden).update(from: base, count: config.hidden) }
            }
        }
        for (dense, shape) in zip(denses, config.denses) {
            products.run(rows: slices.count, dense.linear.weight.to(to)) { _ in from }
            for row in 0..<slices.count { activate(to + row * shape.outputs, dense, shape, zeros) }
            swap(&from, &to)
        }
        let width = config.embeddingLength
        return slices.indices.map { finished(Array(UnsafeBufferPointer(start: from + $0 * width, count: width))) }
    }

    private func pooled(_ slice: Slice) -> [Float] {
        let width = config.hidden
        var sum = [Float](repeating: 0, count: width)
        let all = slice.firstRow..<slice.firstRow + slice.count
        let taken =
            switch config.pooling {
            case .mean: all
            case .cls: all.prefix(1)
            case .last: all.suffix(1)
            }
        for row in taken {
            for i in 0..<width { sum[i] += hidden[row * width + i] }
        }
        for i in 0..<width { sum[i] /= Float(taken.count) }
        return sum
    }

    private func activate(
        _ row: UnsafeMutablePointer<Float>, _ dense: EncoderDense, _ shape: EncoderConfig.Dense, _ zeros: VectorRef
    ) {
        let count = UInt32(shape.outputs)
        switch shape.activation {
        case .gelu: kernels.pointee.gelu(row, dense.linear.bias ?? zeros, count)
        case .identity, .tanh:
            if let bias = dense.linear.bias { kernels.pointee.add(row, bias, count) }
            if shape.activation == .tanh { for i in 0..<shape.outputs { row[i] = tanh(row[i]) } }
        }
        if let norm = dense.norm {
            kernels.pointee.layer_norm(row, norm.weight, norm.bias ?? zeros, row, count, config.epsilon)
        }
    }

    /// The embedding with length 1 where the model wants that; nil where it is no numbers.
    private func finished(_ embedding: [Float]) -> [Float]? {
        guard embedding.withUnsafeBufferPointer({ DecoderStep.isSound($0) }) else { return nil }
        return config.normalize ? EncoderModel.normalized(embedding) : embedding
    }
}

extension EncoderModel {
    /// The first values of an embedding (Kusupati et al. 2022), brought to length 1 where the model's embeddings have that.
    public static func truncated(_ embedding: [Float], to count: Int, normalizing: Bool) -> [Float] {
        let first = Array(embedding.prefix(max(0, count)))
        return normalizing ? normalized(first) : first
    }

    /// The embedding with length 1.
    static func normalized(_ embedding: [Float]) -> [Float] {
        var length: Float = 0
        for value in embedding { length += value * value }
        let factor = 1 / max(length.squareRoot(), 1e-12)
        return embedding.map { $0 * factor }
    }
}
