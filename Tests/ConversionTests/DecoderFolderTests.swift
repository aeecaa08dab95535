import Conversion
import Foundation
import ModelFormat
import Quantization
import Testing
import TestKit

@Suite("Folders of decoders are quantized")
struct DecoderFolderTests {
    private let recipe = Recipe([.init(tensors: ".*", bits: 4, block: 32, asymmetric: true, method: .minmax)])

    private func quantized(_ source: any ModelSource, to path: String) throws -> EbbFile {
        try QuantizedCopy(source, try QuantizationPlan(source, recipe), jobs: 2).write(to: path)
        return try EbbFile(path: path)
    }

    @Test("A folder becomes what its import becomes", arguments: ["llama", "qwen3moe", "gpt-oss"])
    func same(name: String) throws {
        let folder = try TinyDecoder(name).folder()
        let source = try ModelSources.open(folder.path)
        try ModelImport(source).write(to: folder.file("import.ebb"))
        let one = try quantized(source, to: folder.file("a.ebb"))
        let other = try quantized(EbbSource(try EbbFile(path: folder.file("import.ebb"))), to: folder.file("b.ebb"))
        #expect(one.names == other.names)
        for name in one.names {
            let (a, b) = (try #require(one.tensors[name]), try #require(other.tensors[name]))
            #expect(a.shape == b.shape && one.data(a).elementsEqual(other.data(b)), "\(name)")
        }
    }

    @Test("Experts are quantized; their biases and the router stay floats")
    func experts() throws {
        let folder = try TinyDecoder("gpt-oss").folder()
        let file = try quantized(try ModelSources.open(folder.path), to: folder.file("out.ebb"))
        let scheme = try Scheme(bits: 4, block: 32, asymmetric: true)
        func layout(_ name: String) -> TensorShape.Layout? { file.tensors[name]?.shape.layout }
        #expect(layout("blk.0.ffn_up_exps.weight") == .matrix(.quantized(scheme)))
        #expect(layout("blk.0.ffn_up_exps.bias") == .matrix(.f32))
        #expect(layout("blk.0.ffn_gate_inp.weight") == .matrix(.f32))
    }

    @Test("A folder runs like any other source", arguments: ["llama", "llama-llama3", "qwen2"])
    func runs(name: String) throws {
        let folder = try TinyDecoder(name).folder()
        let model = try RunnableModel(try ModelSources.open(folder.path), expanded: false, threads: 2)
        #expect(model.tokens(["ABC"]) == [[35, 36, 37]])
    }
}
