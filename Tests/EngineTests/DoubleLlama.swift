import Foundation
import TestKit

/// The tiny llama in double precision, straight from the equations (Touvron et al. 2023; Su et al. 2021 for the rotation):
/// what the engine has to agree with.
struct DoubleLlama {
    private let gguf: GGUFBuilder
    private let hidden = 64
    private let heads = 4
    private let kvHeads = 2
    /// Values of a head.
    private let width = 16
    private let layers = 2
    /// What positions are divided by, for each pair of a head.
    var factors = [Double](repeating: 1, count: 8)
    /// Tokens that each sees, itself included; 0 for all.
    var window = 0

    /// - Parameter change: as for the engine's model.
    init(change: (inout GGUFBuilder) -> Void) {
        var built = GGUFBuilder([])
        _ = TinyLlama.gguf {
            change(&$0)
            built = $0
        }
        gguf = built
    }

    private func vector(_ name: String) -> [Double] { gguf[name].map(Double.init) }

    /// W x, plus the bias where the file has one.
    private func linear(_ name: String, _ x: [Double]) -> [Double] {
        let (weight, bias) = (vector("\(name).weight"), vector("\(name).bias"))
        return (0..<weight.count / x.count).map { n in
            var sum = bias.isEmpty ? 0 : bias[n]
            for i in x.indices { sum += weight[n * x.count + i] * x[i] }
            return sum
        }
    }

    private func normalized(_ x: [Double], _ name: String) -> [Double] {
        var squares = 0.0
        for value in x { squares += value * value }
        let root = (squares / Double(x.count) + 1e-5).squareRoot()
        return zip(x, vector("\(name).weight")).map { $0 / root * $1 }
    }

    /// Turns the pairs (2i, 2i + 1) of each head.
    private func rotated(_ x: [Double], at position: Int) -> [Double] {
        var out = x
        for start in stride(from: 0, to: x.count, by: 2) {
            let i = start % width / 2
            let angle = Double(position) / factors[i] * pow(10_000, -2 * Double(i) / Double(width))
            out[start] = x[start] * cos(angle) - x[start + 1] * sin(angle)
            out[start + 1] = x[start] * sin(angle) + x[start + 1] * cos(angle)
        }
        return out
    }

    private func attended(_ query: [Double], _ keys: [[Double]], _ values: [[Double]], at position: Int) -> [Double] {
        let first = window > 0 ? max(0, position - window + 1) : 0
        var out = [Double](repeating: 0, count: query.count)
        for head in 0..<heads {
            let kv = head / (heads / kvHeads) * width
            var weights: [Double] = []
            for place in first...position {
                var score = 0.0
                for i in 0..<width { score += query[head * width + i] * keys[place][kv + i] }
                weights.append(exp(score / 4))
            }
            let sum = weights.reduce(0, +)
            for (place, weight) in zip(first...position, weights) {
                for i in 0..<width { out[head * width + i] += weight / sum * values[place][kv + i] }
            }
        }
        return out
    }

    /// The logits of the last of some tokens.
    func logits(_ tokens: [Int32]) -> [Float] {
        let table = vector("token_embd.weight")
        var rows = tokens.map { Array(table[Int($0) * hidden..<Int($0 + 1) * hidden]) }
        for layer in 0..<layers {
            let name = "blk.\(layer)."
            let inputs = rows.map { normalized($0, name + "attn_norm") }
            let keys = inputs.enumerated().map { rotated(linear(name + "attn_k", $1), at: $0) }
            let values = inputs.map { linear(name + "attn_v", $0) }
            for (position, input) in inputs.enumerated() {
                let query = rotated(linear(name + "attn_q", input), at: position)
                let part = linear(name + "attn_output", attended(query, keys, values, at: position))
                rows[position] = zip(rows[position], part).map(+)
                let x = normalized(rows[position], name + "ffn_norm")
                let gate = zip(linear(name + "ffn_gate", x), linear(name + "ffn_up", x)).map {
                    $0 / (1 + exp(-$0)) * $1
                }
                rows[position] = zip(rows[position], linear(name + "ffn_down", gate)).map(+)
            }
        }
        return linear("token_embd", normalized(rows[tokens.count - 1], "output_norm")).map(Float.init)
    }
}
