import CKernels

/// The numbers of a mixture of experts (Shazeer et al. 2017; Fedus et al. 2021).
public struct ExpertConfig: Sendable {
    /// Experts of a layer, and how many of them a row goes through.
    public var count, used: Int
}

/// A mixture of experts' weights: a router, and a gated feed-forward for each expert.
struct ExpertWeights {
    let layer: Int
    /// Before them.
    let norm: VectorRef
    let router: LinearRef
    /// [experts].
    let routerBias: VectorRef?
    /// A matrix for each expert.
    let gate, up, down: [LinearRef]
    /// Rows of biases, one for each expert; nil for none.
    let gateBias, upBias, downBias: LinearRef?
}

/// How the weights of a row's experts follow from the router's logits.
enum Gating {
    /// Softmax over all experts; the weights of the chosen ones stay as they are, or are divided by their sum.
    case softmax(normalized: Bool)
    /// Softmax over the chosen ones.
    case softmaxOfChosen
}

extension DecoderStep {
    /// part = the weighted sum of what the chosen experts make of the normalized rows: for each
    /// down(activation(gate x) * up x). Only the pages of experts that rows are routed to are touched, each once.
    func mix(_ w: ExpertWeights, _ gating: Gating, _ activation: Activation) {
        guard let router = experts else { return }
        project(.normalized(w.norm), w.router.to(router.logits))
        pool.run(items: rowCount, grain: 8) { range, _ in
            for row in range {
                if let bias = w.routerBias {
                    kernels.pointee.add(router.logits + row * router.config.count, bias, UInt32(router.config.count))
                }
                router.choose(row: row, gating)
                (part + row * config.hidden).update(repeating: 0, count: config.hidden)
            }
        }
        router.group(rows: rowCount, layer: w.layer)
        var first = 0
        while first < router.config.count {
            let experts = router.experts(from: first)
            if !router.rows(of: experts).isEmpty { run(experts, w, router, activation) }
            first = experts.upperBound
        }
    }

    /// Adds what some experts make of their rows to `part`.
    private func run(_ experts: Range<Int>, _ w: ExpertWeights, _ router: ExpertRouter, _ activation: Activation) {
        let (rows, hidden, wide) = (router.rows(of: experts), config.hidden, config.feedForward)
        products.run(router.products(experts) { (w.gate[$0].to(gate), w.up[$0].to(up)) }) { range in
            for index in range {
                let from = normalized + router.row(rows.lowerBound + index).row * hidden
                (router.input + index * hidden).update(from: from, count: hidden)
            }
            return router.input
        }
        let downs = router.products(experts) { (w.down[$0].to(router.output), nil) }
        products.run(downs, block: Self.gatedBlock) { range in
            for index in range where w.gateBias != nil || w.upBias != nil {
                let (_, expert) = router.row(rows.lowerBound + index)
                add(w.gateBias, of: expert, to: gate + index * wide, wide, router.bias + index * wide)
                add(w.upBias, of: expert, to: up + index * wide, wide, router.bias + index * wide)
            }
            activate(activation, range, wide)
            return gate
        }
        pool.run(items: rowCount, grain: 8) { range, _ in
            for row in range {
                router.results(of: row) { index, expert, weight in
                    guard rows.contains(index) else { return }
                    let out = router.output + (index - rows.lowerBound) * hidden
                    add(w.downBias, of: expert, to: out, hidden, router.bias + (index - rows.lowerBound) * hidden)
                    kernels.pointee.axpy(part + row * hidden, out, weight, UInt32(hidden))
                }
            }
        }
    }

    /// Adds an expert's row of biases, by way of `memory`.
    private func add(
        _ biases: LinearRef?, of expert: Int, to values: UnsafeMutablePointer<Float>, _ count: Int,
        _ memory: UnsafeMutablePointer<Float>
    ) {
        guard let biases else { return }
        withUnsafePointer(to: biases.pointee.table) { ebb_dequantize_channel($0, UInt32(expert), memory) }
        kernels.pointee.add(values, memory, UInt32(count))
    }
}
