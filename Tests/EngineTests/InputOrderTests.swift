import Engine
import ModelFormat
import TestKit
import Testing

@Suite("Columns in an order of their own")
struct InputOrderTests {
    private let prompt: [Int32] = (0..<70).map { Int32($0 * 7 % 300) }

    /// Puts the columns of matrices into random orders, and says so; gate and up have the same, query and value others.
    private static func reorder(_ builder: inout GGUFBuilder) {
        var random = TestRandom(seed: 11)
        for layer in 0..<2 {
            var ofGate: [Int] = []
            for part in ["attn_q", "attn_v", "ffn_gate", "ffn_up", "ffn_down"] {
                let name = "blk.\(layer).\(part).weight"
                guard let tensor = builder.tensors.first(where: { $0.name == name }) else { continue }
                let k = Int(tensor.dimensions[0])
                let order = part == "ffn_up" ? ofGate : (0..<k).shuffled(using: &random)
                if part == "ffn_gate" { ofGate = order }
                let values = tensor.floats
                builder[name] = values.indices.map { values[$0 / k * k + order[$0 % k]] }
                builder.tensors.append(.f32(name + ".input_order", [UInt64(k)], order.map { Float($0) }))
            }
        }
    }

    @Test(
        "Products read their input in it, whatever the modes", arguments: Kernels.available.map(\.name), [false, true])
    func products(isa: String, eightBit: Bool) throws {
        func model(_ change: @escaping (inout GGUFBuilder) -> Void) throws -> DecoderModel {
            try Models.tiny(isa: isa, options: ModelOptions(precision: .f32)) { builder in
                change(&builder)
                guard eightBit else { return }
                for index in builder.tensors.indices where builder.tensors[index].name.hasSuffix("_down.weight") {
                    // Multiples of 1/64 that eight bits hold, in any order of columns.
                    let tensor = builder.tensors[index]
                    let rounded = tensor.floats.map { max(-127, min(127, ($0 * 64).rounded())) / 64 }
                    builder.tensors[index] = GGUFBuilder.Tensor.f32(tensor.name, tensor.dimensions, rounded).q8(
                        unit: 1 / 64)
                }
            }
        }
        let (plain, ordered) = (try model { _ in }, try model(Self.reorder))
        for expanded in [false, true] {
            try plain.setAll(expanded: expanded)
            try ordered.setAll(expanded: expanded)
            for tokens in [prompt, Array(prompt[..<3]), [7]] {
                let expected = try plain.lastLogits(plain.makeSequence(), tokens)
                let found = try ordered.lastLogits(ordered.makeSequence(), tokens)
                // In integers other values of the input share a scale. In floats sums come in another order, and keys and values
                // that lie between two halves may be rounded the other way: 4.6e-5 was seen.
                #expect(shareOfRange(expected, found) < (eightBit && !expanded ? 0.03 : 2e-4))
            }
        }
    }

    @Test("Each expert reads its input in its own order, and a file of them is found right", arguments: [false, true])
    func experts(sharesOrder: Bool) throws {
        func model(_ change: (inout GGUFBuilder) -> Void) throws -> DecoderModel {
            try DecoderModel(
                try DecoderFamilyTests.imported("olmoe", change: change), pool: try Models.pool(),
                kernels: try Kernels.fromEnvironment(), options: ModelOptions(precision: .f32))
        }
        let plain = try model { _ in }
        let ordered = try model { builder in
            var random = TestRandom(seed: 12)
            var ofGate: [[Int]] = []
            for part in ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"] {
                let name = "blk.1.\(part).weight"
                let values = builder[name]
                let (k, rows) = (64, values.count / 64 / 4)
                var orders = (0..<4).map { _ in (0..<k).shuffled(using: &random) }
                if part == "ffn_gate_exps" { ofGate = orders }
                if part == "ffn_up_exps", sharesOrder { orders = ofGate }
                builder[name] = values.indices.map { values[$0 / k * k + orders[$0 / k / rows][$0 % k]] }
                builder.tensors.append(
                    .f32(name + ".input_order", [UInt64(4 * k)], orders.flatMap { $0.map { Float($0) } }))
            }
        }
        for tokens: [Int32] in [Array(10..<80), [7]] {
            let expected = try plain.lastLogits(plain.makeSequence(), tokens)
            let found = try ordered.lastLogits(ordered.makeSequence(), tokens)
            #expect(shareOfRange(expected, found) < 2e-4)
        }
    }

    @Test("An order that is none is refused when the model is loaded", arguments: [Float(1), -1, 64, 0.5, .nan])
    func damaged(place: Float) throws {
        #expect(throws: FormatError.self) {
            try Models.tiny { builder in
                Self.reorder(&builder)
                var order = builder["blk.0.attn_q.weight.input_order"]
                // Another place has it already.
                order[0] = place == 1 ? order[1] : place
                builder["blk.0.attn_q.weight.input_order"] = order
            }
        }
    }

    @Test("The embedding's rows are looked up, so it has no order")
    func embedding() throws {
        #expect(throws: FormatError.self) {
            try Models.tiny { builder in
                builder.tensors.append(.f32("token_embd.weight.input_order", [64], (0..<64).map { Float(63 - $0) }))
            }
        }
    }
}
