import Engine
import Measuring
import ModelFormat
import TestKit
import Testing

@Suite("Modes of experts")
struct ExpertModeTests {
    static let names = ["olmoe", "qwen3moe", "gpt-oss"]

    private func model(_ name: String, precision: ExpandedPrecision = .f32) throws -> DecoderModel {
        try DecoderModel(
            try DecoderFamilyTests.imported(name, eightBit: true), pool: try Models.pool(),
            kernels: try Kernels.fromEnvironment(), options: ModelOptions(precision: precision))
    }

    private func tokens(_ count: Int, seed: UInt64 = 1) -> [Int32] {
        var random = TestRandom(seed: seed)
        return (0..<count).map { _ in Int32.random(in: 3..<96, using: &random) }
    }

    @Test("Each expert of a layer has a mode of its own, beside the layer's", arguments: names)
    func units(name: String) throws {
        let model = try model(name)
        let layers = model.config.layers
        #expect(model.layerCount == layers + 1 && model.expertCount == layers * 4)
        let units = (0...layers).flatMap(model.units)
        #expect(Set(units) == Set(0..<model.unitCount) && units.count == model.unitCount)
        #expect(model.units(of: 1).map(model.layer) == [1, 1, 1, 1, 1] && model.units(of: layers) == [layers])
        let bytes = (0..<model.unitCount).map(model.expandedBytes)
        #expect(bytes.min() ?? 0 > 0)
        try model.setAll(expanded: true)
        #expect(model.expandedLayers == model.layerCount && model.expandedExperts == model.expertCount)
        #expect(model.expandedBytes >= bytes.reduce(0, +))
        try model.setAll(expanded: false)
        #expect(model.expandedExperts == 0 && model.expandedBytes == 0)
    }

    @Test(
        "Units expanded and dropped in any order, in the middle of a sequence, end as the mode says", arguments: names)
    func anyOrder(name: String) throws {
        let model = try model(name)
        let tokens = tokens(40)
        let low = try model.lastLogits(model.makeSequence(), tokens)
        try model.setAll(expanded: true)
        let exact = try model.lastLogits(model.makeSequence(), tokens)
        try model.setAll(expanded: false)
        var random = TestRandom(seed: 7)
        let sequence = model.makeSequence()
        for unit in (0..<model.unitCount).shuffled(using: &random) {
            try model.expand(unit)
            let isFinite = try model.lastLogits(sequence, [5]).allSatisfy(\.isFinite)
            #expect(isFinite)
        }
        let wholly = try model.lastLogits(model.makeSequence(), tokens) == exact
        #expect(wholly)
        for unit in (0..<model.unitCount).shuffled(using: &random) { model.drop(unit) }
        let back = try model.lastLogits(model.makeSequence(), tokens) == low
        #expect(back && low != exact)
    }

    @Test("Expanding an expert changes what goes through it, and nothing else", arguments: names)
    func oneExpert(name: String) throws {
        let model = try model(name)
        let before = (0..<model.unitCount).map(model.heat)
        let low = try model.lastLogits(model.makeSequence(), [42])
        let used = (model.layerCount..<model.unitCount).filter { model.heat(of: $0) > before[$0] }
        // Two of four in each layer.
        #expect(used.count == 2 * model.config.layers)
        for unit in model.layerCount..<model.unitCount {
            try model.expand(unit)
            let same = try model.lastLogits(model.makeSequence(), [42]) == low
            #expect(same == !used.contains(unit), "unit \(unit)")
            model.drop(unit)
        }
    }

    @Test("An expert is as hot as its share of the rows that its layer saw of late", arguments: names)
    func heat(name: String) throws {
        let model = try model(name)
        func heats(_ layer: Int) -> [Double] { model.units(of: layer).dropFirst().map(model.heat) }
        #expect(heats(0) == [0.25, 0.25, 0.25, 0.25])
        // The same token at position 0, again and again: its experts have all of the rows, half each.
        for _ in 0..<64 { _ = try model.lastLogits(model.makeSequence(), [42]) }
        #expect(heats(0).sorted()[2] > 0.45)
        // Far more rows of other tokens: what was is forgotten.
        for seed in 0..<40 { _ = try model.lastLogits(model.makeSequence(), tokens(250, seed: UInt64(seed))) }
        for layer in 0..<model.config.layers { #expect(abs(heats(layer).reduce(0, +) - 1) < 1e-9) }
        #expect(heats(0).sorted().suffix(2).reduce(0, +) < 0.9)
    }

    @Test("More rows than experts have buffers for give what each sequence gives alone", arguments: names)
    func manyRows(name: String) throws {
        let model = try DecoderModel(
            try DecoderFamilyTests.imported(name), pool: try Models.pool(), kernels: try Kernels.fromEnvironment(),
            options: ModelOptions(precision: .f32))
        // 509 rows, of which each goes through two experts: as many of these as fit go together.
        let texts = [tokens(250, seed: 2), tokens(250, seed: 3), tokens(9, seed: 4)]
        var together: [[Float]] = []
        try model.run(texts.map { StepInput(sequence: model.makeSequence(), tokens: $0, logits: .last) }) {
            _, _, logits in
            together.append(Array(logits))
        }
        for (text, found) in zip(texts, together) {
            let alone = try model.lastLogits(model.makeSequence(), text)
            #expect(shareOfRange(alone, found) < 1e-4)
        }
        #expect(together.count == 3)
    }

    @Test("The probe tells what experts gain from what the rest of their layer gains", arguments: names)
    func probe(name: String) throws {
        // Its text becomes tokens where these are letters.
        let letters = (0..<93).map { String(UnicodeScalar(UInt8(33 + $0))) }
        let file = try DecoderFamilyTests.imported(name, eightBit: true) { builder in
            builder.set("tokenizer.ggml.tokens", .strings(["<pad>", "<s>", "</s>"] + letters))
        }
        let model = try DecoderModel(file, pool: try Models.pool(), kernels: try Kernels.fromEnvironment())
        let costs = try ModeProbe.run(model, mostBytes: .max)
        #expect(costs.gains.count == model.layerCount && costs.expertGains.count == model.config.layers)
        #expect((costs.gains + costs.expertGains).min() ?? 0 > 0)
        #expect(model.expandedBytes == 0)
        #expect(throws: EngineError.self) { _ = try ModeProbe.run(model, mostBytes: costs.gains.count) }
    }

    @Test("A weight with values beyond f16 stays as it is in the file, where they are right, and the rest is expanded")
    func beyondHalves() throws {
        // Q8_0: a block's scale in f16, here 1000, and 32 integers.
        let file = try DecoderFamilyTests.imported("olmoe", eightBit: true) { builder in
            for index in builder.tensors.indices where builder.tensors[index].name == "blk.0.ffn_down_exps.weight" {
                builder.tensors[index].data.replaceSubrange(0..<3, with: [0xd0, 0x63, 127])
            }
        }
        func logits(_ precision: ExpandedPrecision, expanded: Bool) throws -> [Float] {
            let model = try DecoderModel(
                file, pool: try Models.pool(), kernels: try Kernels.fromEnvironment(),
                options: ModelOptions(precision: precision))
            try model.setAll(expanded: expanded)
            return try model.lastLogits(model.makeSequence(), tokens(40))
        }
        let exact = try logits(.f32, expanded: true)
        let isFinite = try logits(.f16, expanded: true).allSatisfy(\.isFinite)
        #expect(isFinite)
        #expect(shareOfRange(exact, try logits(.f16, expanded: true)) < 0.06)
        #expect(shareOfRange(exact, try logits(.f32, expanded: false)) < 0.06)
    }
}
