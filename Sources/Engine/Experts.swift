import CKernels
import Glibc

/// The numbers of a mixture of experts (Shazeer et al. 2017; Fedus et al. 2021).
public struct ExpertConfig: Sendable {
    /// Experts of a layer, and how many of them a row goes through.
    public var count, used: Int
}

/// A mixture of experts' weights: a router, and a gated feed-forward for each expert.
struct ExpertWeights {
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

/// Which experts the rows of a step go through, and the rows of each.
///
/// Used by the engine thread alone, but for rows that threads work on apart.
final class ExpertRouter {
    struct Buffers {
        fileprivate let config: ExpertConfig
        fileprivate let logits, chosen, weights, order, input, output, bias: Workspace.Buffer

        fileprivate let feedForward: Int

        init(_ config: ExpertConfig, hidden: Int, feedForward: Int, _ plan: inout Workspace.Plan) {
            (self.config, self.feedForward) = (config, feedForward)
            logits = plan.buffer(config.count)
            chosen = plan.buffer(config.used)
            weights = plan.buffer(config.used)
            order = plan.buffer(config.used)
            input = plan.buffer(hidden)
            output = plan.buffer(hidden)
            bias = plan.buffer(1 + (max(hidden, feedForward) * 3) / plan.rows)
        }
    }

    let config: ExpertConfig
    /// The router's output, [rows][experts].
    let logits: UnsafeMutablePointer<Float>
    /// The experts of a row and their weights, [rows][used].
    private let chosen: UnsafeMutablePointer<Int32>
    private let weights: UnsafeMutablePointer<Float>
    /// Places in `chosen`, expert by expert.
    private let order: UnsafeMutablePointer<Int32>
    /// The rows of one expert, [rows][hidden], and what it makes of them.
    let input, output: UnsafeMutablePointer<Float>
    /// One expert's biases.
    let gateBias, upBias, downBias: UnsafeMutablePointer<Float>
    /// Where each expert's places begin in `order`; one more for the end.
    private let starts: UnsafeMutablePointer<Int>

    init(_ buffers: Buffers, in workspace: Workspace) {
        config = buffers.config
        logits = workspace.floats(buffers.logits)
        (chosen, order) = (workspace.integers(buffers.chosen), workspace.integers(buffers.order))
        weights = workspace.floats(buffers.weights)
        (input, output) = (workspace.floats(buffers.input), workspace.floats(buffers.output))
        gateBias = workspace.floats(buffers.bias)
        upBias = gateBias + buffers.feedForward
        downBias = upBias + buffers.feedForward
        starts = .allocate(capacity: config.count + 1)
        starts.initialize(repeating: 0, count: config.count + 1)
    }

    deinit { starts.deallocate() }

    /// Chooses a row's experts by its logits, the largest first, of equal ones the first.
    func choose(row: Int, _ gating: Gating) {
        let (count, used) = (config.count, config.used)
        let (logits, chosen, weights) = (logits + row * count, chosen + row * used, weights + row * used)
        for place in 0..<used {
            var best = -1
            for expert in 0..<count where best < 0 || logits[expert] > logits[best] {
                if !(0..<place).contains(where: { chosen[$0] == Int32(expert) }) { best = expert }
            }
            chosen[place] = Int32(best)
        }
        let most = logits[Int(chosen[0])]
        for place in 0..<used { weights[place] = expf(logits[Int(chosen[place])] - most) }
        var sum: Float = 0
        switch gating {
        case .softmax(normalized: false): for expert in 0..<count { sum += expf(logits[expert] - most) }
        case .softmax(normalized: true), .softmaxOfChosen: for place in 0..<used { sum += weights[place] }
        }
        for place in 0..<used { weights[place] /= sum }
    }

    /// Sorts the rows by their experts.
    func group(rows: Int) {
        let (count, places) = (config.count, rows * config.used)
        starts.update(repeating: 0, count: count + 1)
        for place in 0..<places { starts[Int(chosen[place]) + 1] += 1 }
        for expert in 0..<count { starts[expert + 1] += starts[expert] }
        // Each start moves to its expert's end, which is the next one's start.
        for place in 0..<places {
            let expert = Int(chosen[place])
            order[starts[expert]] = Int32(place)
            starts[expert] += 1
        }
        for expert in stride(from: count, to: 0, by: -1) { starts[expert] = starts[expert - 1] }
        starts[0] = 0
    }

    /// Rows that go through an expert.
    func rows(of expert: Int) -> Int { starts[expert + 1] - starts[expert] }

    /// The row that comes `index`th to an expert, and the weight of the expert's result in it.
    func row(_ index: Int, of expert: Int) -> (row: Int, weight: Float) {
        let place = Int(order[starts[expert] + index])
        return (place / config.used, weights[place])
    }
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
        router.group(rows: rowCount)
        for expert in 0..<router.config.count where router.rows(of: expert) > 0 { run(expert, w, router, activation) }
    }

    private func run(_ expert: Int, _ w: ExpertWeights, _ router: ExpertRouter, _ activation: Activation) {
        let (rows, hidden, wide) = (router.rows(of: expert), config.hidden, config.feedForward)
        products.run(rows: rows, w.gate[expert].to(gate), w.up[expert].to(up)) { range in
            for index in range {
                let from = normalized + router.row(index, of: expert).row * hidden
                (router.input + index * hidden).update(from: from, count: hidden)
            }
            return router.input
        }
        let gateBias = bias(w.gateBias, of: expert, router.gateBias)
        let upBias = bias(w.upBias, of: expert, router.upBias)
        products.run(rows: rows, w.down[expert].to(router.output), block: Self.gatedBlock) { range in
            for row in range {
                if let gateBias { kernels.pointee.add(gate + row * wide, gateBias, UInt32(wide)) }
                if let upBias { kernels.pointee.add(up + row * wide, upBias, UInt32(wide)) }
            }
            activate(activation, range, wide)
            return gate
        }
        let downBias = bias(w.downBias, of: expert, router.downBias)
        pool.run(items: rows, grain: 8) { range, _ in
            for index in range {
                let (out, place) = (router.output + index * hidden, router.row(index, of: expert))
                if let downBias { kernels.pointee.add(out, downBias, UInt32(hidden)) }
                kernels.pointee.axpy(part + place.row * hidden, out, place.weight, UInt32(hidden))
            }
        }
    }

    private func bias(
        _ biases: LinearRef?, of expert: Int, _ out: UnsafeMutablePointer<Float>
    ) -> UnsafeMutablePointer<Float>? {
        guard let biases else { return nil }
        withUnsafePointer(to: biases.pointee.table) { ebb_dequantize_channel($0, UInt32(expert), out) }
        return out
    }
}
