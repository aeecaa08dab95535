import Conversion
import Foundation
import ModelFormat
import Quantization
import Testing
import TestKit

@Suite("Recipes and bad input")
struct RecipeTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TinyBert().folder() }

    private func source() throws -> any ModelSource { try ModelSources.open(folder.path) }

    private func quantize(_ recipe: Recipe, _ source: any ModelSource, name: String = "out.ebb") throws -> EbbFile {
        let path = folder.file(name)
        try Quantizer(source, calibration: nil, threads: 2).write(try QuantizationPlan(source, recipe), to: path)
        return try EbbFile(path: path)
    }

    private func refusal(_ recipe: Recipe) -> String? {
        do {
            _ = try quantize(recipe, try source())
            return nil
        } catch { return "\(error)" }
    }

    @Test("The first rule that matches a whole name counts; what no rule names stays as it is")
    func rules() throws {
        let recipe = Recipe([
            .init(tensors: "token_embd.weight", keep: .f16),
            .init(tensors: #"blk\.0\..*"#, bits: 8, block: 32, asymmetric: false, method: .minmax),
            .init(tensors: #"blk\..*"#, bits: 3, block: 16, asymmetric: true, scaleBits: 32, method: .hqq),
        ])
        let file = try quantize(recipe, try source())
        func encoding(_ name: String) -> String { file.shapes.first { $0.name == name }?.encodingText ?? "none" }
        #expect(encoding("token_embd.weight") == "f16")
        #expect(encoding("blk.0.attn_q.weight") == "8 bit, block 32, symmetric, f16 scales")
        #expect(encoding("blk.1.attn_q.weight") == "3 bit, block 16, asymmetric, f32 scales")
        #expect(encoding("position_embd.weight") == "f32")
        #expect(encoding("token_types.weight") == "f32")
    }

    @Test("A run is repeated by the recipe that it wrote, to the byte")
    func repeated() throws {
        let source = try source()
        let first = try quantize(MiniLM.uniform(4, .hqq), source, name: "a.ebb")
        let recipe = try #require(RecipeFile.recipe(of: first))
        try RecipeFile.write(recipe, to: folder.file("r.json"))
        _ = try quantize(try RecipeFile.read(folder.file("r.json")), source, name: "b.ebb")
        let (a, b) = (FileManager.default.contents(atPath: folder.file("a.ebb")), folder.file("b.ebb"))
        #expect(a != nil && a == FileManager.default.contents(atPath: b))
    }

    @Test("A quantized file can be quantized anew")
    func again() throws {
        let first = try quantize(MiniLM.uniform(8, .minmax), try source(), name: "a.ebb")
        let second = try quantize(MiniLM.uniform(3, .mse), EbbSource(first), name: "b.ebb")
        #expect(second.byteCount < first.byteCount)
        #expect(RecipeFile.recipe(of: second)?.rules.contains { $0.bits == 3 } == true)
    }

    @Test("A rule that names no matrix, and a recipe without rules, are refused")
    func namesNothing() {
        let unknown = Recipe([.init(tensors: "blk.9.*", bits: 4, block: 32, asymmetric: true, method: .minmax)])
        #expect(refusal(unknown)?.contains("blk.9.*") == true)
        #expect(refusal(Recipe([]))?.contains("names no layer") == true)
        #expect(refusal(Recipe([.init(tensors: "(", keep: .f16)]))?.contains("regular expression") == true)
    }

    @Test("Impossible widths and blocks are refused", arguments: [(1, 32), (9, 32), (4, 48), (4, 0)])
    func impossible(bits: Int, block: Int) {
        let recipe = Recipe([.init(tensors: ".*", bits: bits, block: block, asymmetric: true, method: .minmax)])
        let said = refusal(recipe)
        #expect(said?.contains("possible") == true)
        #expect(!folder.names.contains { $0.hasPrefix("out") })
    }

    @Test("Weights that are NaN or infinite are refused by name, and leave no file", arguments: [Float.nan, .infinity])
    func notFinite(value: Float) throws {
        for (name, stored) in [
            ("encoder.layer.1.output.dense.weight", "blk.1.ffn_down.weight"),
            ("encoder.layer.0.output.LayerNorm.bias", "blk.0.layer_output_norm.bias"),
        ] {
            var model = TinyBert()
            let index = try #require(model.weights.firstIndex { $0.name == name })
            model.weights[index].values[5] = value
            try model.write(to: folder)
            #expect(refusal(MiniLM.uniform(4, .hqq))?.contains(stored) == true)
            #expect(refusal(QuantizationPlan.halves)?.contains(stored) == true)
            #expect(!folder.names.contains { $0.hasPrefix("out") })
        }
    }

    @Test("Constant and zero weights, and k that is no multiple of the block, give finite files", arguments: [2, 3, 8])
    func degenerate(bits: Int) throws {
        var model = TinyBert()
        for index in model.weights.indices where model.weights[index].shape.count == 2 {
            let count = model.weights[index].values.count
            if index % 3 == 0 { model.weights[index].values = Array(repeating: 0, count: count) }
            if index % 3 == 1 { model.weights[index].values = Array(repeating: 0.25, count: count) }
        }
        try model.write(to: folder)
        for block in [-1, 16, 64, 256] {
            for method in [QuantizationMethod.minmax, .mse, .hqq] {
                let file = EbbSource(try quantize(MiniLM.uniform(bits, method, block: block), try source()))
                for tensor in file.tensors where !tensor.isVector {
                    var row = [Float](repeating: .nan, count: tensor.k)
                    for channel in 0..<tensor.n {
                        try file.read(tensor, channel: channel, into: &row)
                        let isFinite = row.allSatisfy { $0.isFinite }
                        #expect(isFinite, "\(tensor.name)")
                    }
                }
            }
        }
    }

    @Test("An empty calibration file, and GPTQ without one, are refused")
    func calibration() throws {
        try folder.write("empty.txt", Array(" \n\n".utf8))
        let error = #expect(throws: InputError.self) { try CalibrationTexts.read(folder.file("empty.txt")) }
        #expect(error?.description.contains("empty") == true)
        #expect(throws: FormatError.self) { try CalibrationTexts.read(folder.file("none.txt")) }
        #expect(refusal(MiniLM.uniform(4, .gptq))?.contains("calibration") == true)
    }

    @Test(
        "A recipe file that is none says what is expected", arguments: ["", "[]", "{\"rules\":[{\"bits\":4}]}", "{}"])
    func noRecipe(text: String) throws {
        try folder.write("r.json", Array(text.utf8))
        #expect(throws: FormatError.self) { try RecipeFile.read(folder.file("r.json")) }
    }

    @Test(
        "A key of a recipe that is none is refused by its name",
        arguments: [
            (
                #"{"rules": [{"tensors": ".*", "bits": 4}, {"tensors": ".*", "bits": 4, "blok": 16}]}"#,
                "\"blok\" in rule 2"
            ),
            (#"{"rules": [], "rule": 1}"#, "\"rule\" is unknown"),
        ])
    func unknownKey(text: String, words: String) throws {
        try folder.write("r.json", Array("\u{feff}\(text)\r\n".utf8))
        let error = #expect(throws: FormatError.self) { try RecipeFile.read(folder.file("r.json")) }
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
    }

    @Test("A file whose fixed input scales are impossible or contradict each other is refused, not run")
    func hostileScales() throws {
        let source = try source()
        let fixed = QuantizationPlan.uniform(bits: 8, block: -1, asymmetric: false, method: .minmax)
        let all = ["attn_q", "attn_k", "attn_v"].map { "blk.0.\($0).weight.input_scale" }
        for (vectors, isRight) in [
            (all.map { ($0, [Float(0.1)]) }, true), ([(all[0], [0.1])], false),
            ([(all[0], [0.1]), (all[1], [0.1]), (all[2], [0.2])], false), (all.map { ($0, [-1]) }, false),
            (all.map { ($0, [0.1, 0.1]) }, false),
            (all.map { ($0, [0.1]) } + [("blk.0.attention_scales", [1, 0, 1])], false),
            (
                all.map { ($0, [0.1]) } + [("blk.0.attn_q.weight.input_smoothing", [Float](repeating: 0, count: 32))],
                false
            ),
            ([("blk.0.ffn_up.weight.input_scale", [0.1])], true),
        ] as [([(String, [Float])], Bool)] {
            var copy = QuantizedCopy(source, try QuantizationPlan(source, fixed), jobs: 1)
            copy.vectors = vectors.map { (name: $0.0, values: $0.1) }
            try copy.write(to: folder.file("h.ebb"))
            let file = EbbSource(try EbbFile(path: folder.file("h.ebb")))
            let model = try? RunnableModel(file, expanded: false, threads: 1)
            #expect((model != nil) == isRight, "\(vectors)")
        }
        // What is no number does not come into a file at all.
        var broken = QuantizedCopy(source, try QuantizationPlan(source, fixed), jobs: 1)
        broken.vectors = all.map { (name: $0, values: [.nan]) }
        #expect(throws: FormatError.self) { try broken.write(to: folder.file("nan.ebb")) }
        // Fixed scales on a matrix that is not 8 bit, symmetric, per channel.
        var copy = QuantizedCopy(source, try QuantizationPlan(source, MiniLM.uniform(4, .minmax)), jobs: 1)
        copy.vectors = [("blk.0.ffn_up.weight.input_scale", [0.1])]
        try copy.write(to: folder.file("h.ebb"))
        let file = EbbSource(try EbbFile(path: folder.file("h.ebb")))
        #expect(throws: FormatError.self) { try RunnableModel(file, expanded: false, threads: 1) }
    }

    @Test("A tiny model goes the whole way: GPTQ, calibration, full INT8, evaluation")
    func tinyModel() throws {
        let source = try source()
        let texts = ["abc def", "a b c d e f g", "hello world"]
        let plan = try QuantizationPlan(source, MiniLM.uniform(4, .gptq))
        try Quantizer(source, calibration: texts, threads: 2).write(plan, to: folder.file("g.ebb"))
        let model = try RunnableModel(source, expanded: true, threads: 2)
        let reference = try ReferenceOutputs(model, texts: texts)
        let evaluation = try Evaluation(
            try EbbFile(path: folder.file("g.ebb")), against: source, reference, expanded: false, threads: 2)
        #expect(evaluation.loss.value < 0.1)
        let int8 = try FullInt8(source, try Calibration(model, texts: texts), range: .mse)
        _ = try Quantizer(source, calibration: nil, threads: 2).write(int8, to: folder.file("i.ebb"))
        let calibrated = try RunnableModel(
            EbbSource(try EbbFile(path: folder.file("i.ebb"))), expanded: false, threads: 2)
        #expect(try reference.loss(of: calibrated).value < 0.1)
        // Its weights stand for calibrated inputs: they are no source any more.
        let again = EbbSource(try EbbFile(path: folder.file("i.ebb")))
        let error = #expect(throws: FormatError.self) { try QuantizationPlan(again, MiniLM.uniform(4, .hqq)) }
        #expect(error?.description.contains("full INT8") == true)
    }
}

extension TensorShape {
    var encodingText: String { if case .matrix(let encoding) = layout { encoding.summary } else { "vector" } }
}
