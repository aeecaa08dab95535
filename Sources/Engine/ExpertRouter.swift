import Glibc

/// Which experts the rows of a step go through, and the rows of each.
///
/// Used by the engine thread alone, but for rows that threads work on apart.
final class ExpertRouter {
    struct Buffers {
        fileprivate let config: ExpertConfig
        fileprivate let layers, rows: Int
        fileprivate let logits, chosen, weights, order, places, input, output, bias: Workspace.Buffer

        init(_ config: ExpertConfig, layers: Int, hidden: Int, feedForward: Int, _ plan: inout Workspace.Plan) {
            (self.config, self.layers, rows) = (config, layers, plan.rows)
            logits = plan.buffer(config.count)
            chosen = plan.buffer(config.used)
            weights = plan.buffer(config.used)
            order = plan.buffer(config.used)
            places = plan.buffer(config.used)
            input = plan.buffer(hidden)
            output = plan.buffer(hidden)
            bias = plan.buffer(max(hidden, feedForward))
        }
    }

    let config: ExpertConfig
    let use: ExpertUse
    /// Rows that there are buffers for.
    private let capacity: Int
    /// The router's output, [rows][experts].
    let logits: UnsafeMutablePointer<Float>
    /// The experts of a row, ascending, and their weights, [rows][used].
    private let chosen: UnsafeMutablePointer<Int32>
    private let weights: UnsafeMutablePointer<Float>
    /// Places in `chosen`, expert by expert; and where each place is among them.
    private let order, places: UnsafeMutablePointer<Int32>
    /// Rows as some experts read them, expert by expert, [capacity][hidden], and what these make of them.
    let input, output: UnsafeMutablePointer<Float>
    /// An expert's biases for each of these rows.
    let bias: UnsafeMutablePointer<Float>
    /// Where each expert's places begin in `order`; one more for the end.
    private let starts: UnsafeMutablePointer<Int>
    private let products: UnsafeMutableBufferPointer<Product>

    init(_ buffers: Buffers, in workspace: Workspace) {
        config = buffers.config
        capacity = buffers.rows
        use = ExpertUse(config, layers: buffers.layers)
        logits = workspace.floats(buffers.logits)
        (chosen, order) = (workspace.integers(buffers.chosen), workspace.integers(buffers.order))
        places = workspace.integers(buffers.places)
        weights = workspace.floats(buffers.weights)
        (input, output) = (workspace.floats(buffers.input), workspace.floats(buffers.output))
        bias = workspace.floats(buffers.bias)
        starts = .allocate(capacity: config.count + 1)
        starts.initialize(repeating: 0, count: config.count + 1)
        products = .allocate(capacity: config.count)
    }

    deinit {
        starts.deallocate()
        products.deallocate()
    }

    /// Rows that the experts' products have at most in a step.
    func places(rows: Int) -> Int { max(rows, min(rows * config.used, capacity)) }

    /// Chooses a row's experts by its logits: the largest, of equal ones the first.
    func choose(row: Int, _ gating: Gating) {
        let (count, used) = (config.count, config.used)
        let (logits, chosen, weights) = (logits + row * count, chosen + row * used, weights + row * used)
        for expert in 0..<count {
            var place = min(expert, used)
            if place == used {
                guard logits[expert] > logits[Int(chosen[used - 1])] else { continue }
                place -= 1
            }
            while place > 0, logits[expert] > logits[Int(chosen[place - 1])] {
                chosen[place] = chosen[place - 1]
                place -= 1
            }
            chosen[place] = Int32(expert)
        }
        let most = logits[Int(chosen[0])]
        for place in 0..<used { weights[place] = expf(logits[Int(chosen[place])] - most) }
        var sum: Float = 0
        switch gating {
        case .softmax(normalized: false): for expert in 0..<count { sum += expf(logits[expert] - most) }
        case .softmax(normalized: true), .softmaxOfChosen: for place in 0..<used { sum += weights[place] }
        }
        for place in 0..<used { weights[place] /= sum }
        sort(chosen, weights)
    }

    /// Brings a row's experts into ascending order.
    private func sort(_ chosen: UnsafeMutablePointer<Int32>, _ weights: UnsafeMutablePointer<Float>) {
        for end in 1..<max(config.used, 1) {
            var place = end
            while place > 0, chosen[place] < chosen[place - 1] {
                swap(&chosen[place], &chosen[place - 1])
                swap(&weights[place], &weights[place - 1])
                place -= 1
            }
        }
    }

    /// Sorts the rows by their experts.
    /// - Parameter layer: whose experts they are.
    func group(rows: Int, layer: Int) {
        let (count, all) = (config.count, rows * config.used)
        starts.update(repeating: 0, count: count + 1)
        for place in 0..<all { starts[Int(chosen[place]) + 1] += 1 }
        for expert in 0..<count {
            use.add(starts[expert + 1], to: expert, of: layer)
            starts[expert + 1] += starts[expert]
        }
        use.forget(of: layer)
        // Each start moves to its expert's end, which is the next one's start.
        for place in 0..<all {
            let expert = Int(chosen[place])
            order[starts[expert]] = Int32(place)
            places[place] = Int32(starts[expert])
            starts[expert] += 1
        }
        for expert in stride(from: count, to: 0, by: -1) { starts[expert] = starts[expert - 1] }
        starts[0] = 0
    }

    /// The experts from `first` on whose rows there are buffers for together.
    func experts(from first: Int) -> Range<Int> {
        var end = first + 1
        while end < config.count, starts[end + 1] - starts[first] <= capacity { end += 1 }
        return first..<end
    }

    /// Rows of some experts, expert by expert: numbers in `order`.
    func rows(of experts: Range<Int>) -> Range<Int> { starts[experts.lowerBound]..<starts[experts.upperBound] }

    /// The row of the step that is the `index`th in `order`, and its expert.
    func row(_ index: Int) -> (row: Int, expert: Int) {
        let place = Int(order[index])
        return (place / config.used, Int(chosen[place]))
    }

    /// A row's experts, ascending: where their results are in `order`, and the weights of these.
    func results(of row: Int, _ body: (Int, Int, Float) -> Void) {
        for place in row * config.used..<(row + 1) * config.used {
            body(Int(places[place]), Int(chosen[place]), weights[place])
        }
    }

    /// A product for each of some experts that rows go to; their rows are numbered from 0.
    func products(
        _ experts: Range<Int>, _ weights: (Int) -> (Projection, Projection?)
    ) -> UnsafeMutableBufferPointer<Product> {
        let first = starts[experts.lowerBound]
        var count = 0
        for expert in experts where starts[expert + 1] > starts[expert] {
            let (a, b) = weights(expert)
            products[count] = Product(rows: starts[expert] - first..<starts[expert + 1] - first, a, b)
            count += 1
        }
        return UnsafeMutableBufferPointer(rebasing: products[..<count])
    }
}
