import Foundation
import ModelFormat
import Quantization
import Testing
import TestKit

/// Checkpoints of integers, written here from known ones as their programs pack them: GPTQModel's `nn_modules/qlinear`
/// (`qweight` [k / 8, n], words along k; `qzeros` [groups, n / 8], less 1 in the first version), AutoAWQ's
/// `modules/linear/gemm.py` (`qweight` [k, n / 8], eight channels in the order 0, 2, 4, 6, 1, 3, 5, 7, or four of 8 bits in the
/// order 0, 2, 1, 3) and compressed-tensors (`weight_packed` [n, k / 8], `weight_zero_point` [n / 8, groups]).
@Suite("Folders of GPTQ, AWQ and compressed-tensors weights")
struct PackedFolderTests {
    struct Case: CustomStringConvertible {
        var method = "gptq", format = "gptq"
        var bits = 4, group = 32
        var isSymmetric = false
        /// Scales whose products with zero points need more than f16 has.
        var isWide = true
        var order = Order.none
        enum Order { case none, plain, shuffled }

        var description: String {
            "\(method) \(format) \(bits) bit, group \(group), \(isSymmetric ? "symmetric" : "asymmetric"), "
                + "\(isWide ? "wide" : "narrow"), \(order)"
        }

        var groupsName: String { method == "compressed-tensors" ? ".weight_g_idx" : ".g_idx" }

        var config: [String: Any] {
            if method == "awq" {
                return [
                    "quant_method": "awq", "bits": bits, "group_size": group, "zero_point": true, "version": "gemm",
                    "backend": "autoawq", "modules_to_not_convert": NSNull(),
                ]
            }
            if method == "compressed-tensors" {
                let weights: [String: Any] = [
                    "num_bits": bits, "type": "int", "symmetric": isSymmetric, "dynamic": false,
                    "strategy": group == -1 ? "channel" : "group", "group_size": group == -1 ? NSNull() : group,
                    "actorder": order == .none ? NSNull() : "group", "block_structure": NSNull(), "observer": "minmax",
                ]
                return [
                    "quant_method": method, "format": "pack-quantized", "quantization_status": "compressed",
                    "ignore": ["lm_head"], "kv_cache_scheme": NSNull(), "global_compression_ratio": NSNull(),
                    "sparsity_config": [String: Any](), "transform_config": [String: Any](), "version": "0.12.2",
                    "config_groups": [
                        "group_0": [
                            "targets": ["Linear"], "weights": weights, "input_activations": NSNull(),
                            "output_activations": NSNull(), "format": "pack-quantized",
                        ]
                    ],
                ]
            }
            return [
                "quant_method": "gptq", "bits": bits, "group_size": group, "sym": isSymmetric,
                "desc_act": order == .shuffled, "checkpoint_format": format, "damp_percent": 0.1,
                "true_sequential": true, "model_name_or_path": "",
            ]
        }
    }

    static let cases: [Case] =
        [16, 32, 64, 128, -1].flatMap { group in
            [4, 8].flatMap { bits in
                [true, false].map { Case(bits: bits, group: group, isSymmetric: $0) }
            }
        } + [
            Case(format: "gptq_v2"), Case(format: "gptq_v2", bits: 8, isSymmetric: true), Case(isWide: false),
            Case(bits: 2), Case(bits: 8, isWide: false), Case(order: .plain), Case(order: .shuffled),
            Case(bits: 8, group: 16, isSymmetric: true, order: .shuffled), Case(group: -1, order: .plain),
            Case(method: "awq"), Case(method: "awq", group: 64), Case(method: "awq", group: 128, isWide: false),
            Case(method: "awq", group: -1), Case(method: "awq", isSymmetric: true), Case(method: "awq", bits: 8),
            Case(method: "awq", bits: 8, group: -1, isWide: false), Case(method: "awq", bits: 8, isSymmetric: true),
        ] + compressed

    private static let compressed: [Case] =
        [4, 8].flatMap { bits in
            [32, 128, -1].flatMap { group in
                [true, false].map {
                    Case(method: "compressed-tensors", bits: bits, group: group, isSymmetric: $0, isWide: !$0)
                }
            }
        } + [
            Case(method: "compressed-tensors", bits: 2), Case(method: "compressed-tensors", order: .shuffled),
            Case(method: "compressed-tensors", bits: 8, isSymmetric: true, order: .shuffled),
            Case(method: "compressed-tensors", order: .plain),
        ]

    private struct Made {
        var model: TinyDecoder
        var values: [String: [Float]] = [:]
    }

    private func made(_ c: Case, family: String = "llama") throws -> Made {
        var made = Made(model: try TinyDecoder(family))
        made.model.config["quantization_config"] = c.config
        var random = TestRandom(seed: 23)
        for tensor in made.model.weights.tensors where tensor.name.contains("_proj.weight") {
            made.model.weights.tensors.removeAll { $0.name == tensor.name }
            let module = String(tensor.name.dropLast(".weight".count))
            let (n, k) = (tensor.shape[0], tensor.shape[1])
            let group = c.group == -1 ? k : c.group
            let groups = (k + group - 1) / group
            let most = 1 << c.bits
            let q = (0..<n * k).map { _ in Int.random(in: 0..<most, using: &random) }
            let zeros = (0..<groups * n).map { _ in
                c.isSymmetric ? most / 2 : Int.random(in: 1..<most, using: &random)
            }
            let scales = (0..<groups * n).map { _ -> Float in
                let step = Int.random(in: c.isWide ? 1025...2047 : 1...7, using: &random)
                return Float(step) * (c.isWide ? 0x1p-17 : 0x1p-10)
            }
            var order = (0..<k).map { $0 / group }
            if c.order == .shuffled { order.shuffle(using: &random) }
            if c.order != .none { made.model.weights.add(module + c.groupsName, [k], order.map { Int32($0) }) }
            add(module, c, n: n, k: k, q, zeros, scales, to: &made.model.weights)
            made.values[module] = (0..<n * k).map { index in
                let (channel, i) = (index / k, index % k)
                let place = order[i] * n + channel
                return scales[place] * Float(q[index] - zeros[place])
            }
        }
        return made
    }

    /// Packs integers [n, k] and zero points [groups, n].
    private func add(
        _ module: String, _ c: Case, n: Int, k: Int, _ q: [Int], _ zeros: [Int], _ scales: [Float],
        to weights: inout SafetensorsBuilder
    ) {
        let inWord = 32 / c.bits
        let groups = zeros.count / n
        if c.method == "compressed-tensors" {
            return addCompressed(module, c, n: n, k: k, q, zeros, scales, to: &weights)
        }
        var (words, zeroWords): ([UInt32], [UInt32])
        zeroWords = Array(repeating: 0, count: groups * n / inWord)
        let bias = c.method == "gptq" && c.format == "gptq" ? 1 : 0
        // Column 8 j + order[p] lies at place p of word j.
        let order = c.method != "awq" ? Array(0..<inWord) : c.bits == 8 ? [0, 2, 1, 3] : [0, 2, 4, 6, 1, 3, 5, 7]
        for group in 0..<groups {
            for word in 0..<n / inWord {
                for place in 0..<inWord {
                    let zero = zeros[group * n + word * inWord + order[place]] - bias
                    zeroWords[group * (n / inWord) + word] |= UInt32(zero) << UInt32(place * c.bits)
                }
            }
        }
        words = Array(repeating: 0, count: n * k / inWord)
        for channel in 0..<n {
            for i in 0..<k {
                let value = UInt32(q[channel * k + i])
                if c.method == "awq" {
                    let place = order.firstIndex(of: channel % inWord) ?? 0
                    words[i * (n / inWord) + channel / inWord] |= value << UInt32(place * c.bits)
                } else {
                    words[i / inWord * n + channel] |= value << UInt32(i % inWord * c.bits)
                }
            }
        }
        let shape = c.method == "awq" ? [k, n / inWord] : [k / inWord, n]
        weights.add(module + ".qweight", shape, words.map { Int32(bitPattern: $0) })
        weights.add(module + ".qzeros", [groups, n / inWord], zeroWords.map { Int32(bitPattern: $0) })
        weights.add(module + ".scales", [groups, n], scales, as: "F16")
    }

    private func addCompressed(
        _ module: String, _ c: Case, n: Int, k: Int, _ q: [Int], _ zeros: [Int], _ scales: [Float],
        to weights: inout SafetensorsBuilder
    ) {
        let (inWord, groups) = (32 / c.bits, zeros.count / n)
        /// Integers [rows, columns], packed along the columns.
        func packed(_ values: [Int], columns: Int) -> [Int32] {
            stride(from: 0, to: values.count, by: columns).flatMap { start in
                stride(from: start, to: start + columns, by: inWord).map { first in
                    (first..<min(first + inWord, start + columns)).reduce(into: Int32(0)) { word, place in
                        word |= Int32(truncatingIfNeeded: values[place] << ((place - first) * c.bits))
                    }
                }
            }
        }
        func transposed<T>(_ values: [T], columns: Int) -> [T] {
            (0..<columns).flatMap { column in stride(from: column, to: values.count, by: columns).map { values[$0] } }
        }
        weights.add(module + ".weight_packed", [n, k / inWord], packed(q, columns: k))
        weights.add(
            module + ".weight_scale", [n, groups], transposed(scales, columns: n),
            as: c.isWide ? "F16" : "BF16")
        let shape = [n, k].flatMap { size in withUnsafeBytes(of: Int64(size).littleEndian) { Array($0) } }
        weights.add(module + ".weight_shape", "I64", [2], shape)
        guard !c.isSymmetric else { return }
        let words = packed(zeros, columns: n)
        weights.add(
            module + ".weight_zero_point", [n / inWord, groups], transposed(words, columns: n / inWord))
    }

    private func imported(_ model: TinyDecoder) throws -> (source: EbbSource, notices: [String], TemporaryFolder) {
        let folder = try model.folder()
        let source = try ModelSources.open(folder.path)
        try ModelImport(source).write(to: folder.file("out.ebb"))
        return (EbbSource(try EbbFile(path: folder.file("out.ebb"))), source.notices, folder)
    }

    private func values(_ source: EbbSource, _ name: String) throws -> (Encoding, [Float]) {
        let tensor = try #require(source.tensors.first { $0.name == name })
        let found = try (0..<tensor.n).flatMap { channel in
            var row = [Float](repeating: 0, count: tensor.k)
            try source.read(tensor, channel: channel, into: &row)
            return row
        }
        return (tensor.encoding, found)
    }

    private static let modules = [
        ("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj"),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj"),
        ("blk.1.ffn_gate.weight", "model.layers.1.mlp.gate_proj"),
    ]

    @Test("The integers are kept, and stand for the values that they stand for there", arguments: cases)
    func exact(c: Case) throws {
        let made = try made(c)
        let (source, notices, folder) = try imported(made.model)
        for (name, theirs) in Self.modules {
            let (encoding, found) = try values(source, name)
            #expect(found == made.values[theirs], "\(name)")
            let k = source.tensors.first { $0.name == name }?.k ?? 0
            let scheme = try Scheme(
                bits: c.bits, block: c.group == -1 || c.group >= k ? -1 : c.group, asymmetric: !c.isSymmetric,
                scale: c.isSymmetric || !c.isWide ? .f16 : .f32)
            #expect(encoding == .quantized(scheme), "\(encoding.summary)")
        }
        #expect(notices.isEmpty)
        // Rows change places under RoPE; their values do not.
        let (_, query) = try values(source, "blk.0.attn_q.weight")
        #expect(query != made.values["model.layers.0.self_attn.q_proj"])
        #expect(query.sorted() == made.values["model.layers.0.self_attn.q_proj"]?.sorted())
        let half = 64 * 16 / 2
        #expect(
            Array(query[64..<128]) == made.values["model.layers.0.self_attn.q_proj"].map { Array($0[half..<half + 64]) }
        )
        _ = folder
    }

    @Test("Experts of a mixture are one matrix of integers")
    func experts() throws {
        let made = try made(Case(isWide: false), family: "qwen3moe")
        let (source, _, folder) = try imported(made.model)
        let (encoding, found) = try values(source, "blk.1.ffn_up_exps.weight")
        #expect(found == (0..<4).flatMap { made.values["model.layers.1.mlp.experts.\($0).up_proj"] ?? [] })
        #expect(encoding == .quantized(try Scheme(bits: 4, block: 32, asymmetric: true)))
        _ = folder
    }

    @Test("Biases of zeros that the program added are left out; others are kept")
    func biases() throws {
        var made = try made(Case())
        made.model.weights.add("model.layers.0.self_attn.o_proj.bias", [64], [Float](repeating: 0, count: 64))
        made.model.weights.add("model.layers.0.self_attn.v_proj.bias", [32], [Float](repeating: 1, count: 32))
        let (source, _, folder) = try imported(made.model)
        #expect(source.file.tensors["blk.0.attn_output.bias"] == nil)
        #expect(source.file.tensors["blk.0.attn_v.bias"] != nil)
        _ = folder
    }

    private func refusal(_ c: Case = Case(), _ change: (inout TinyDecoder) -> Void) throws -> String {
        var model = try made(c).model
        change(&model)
        let folder = try model.folder()
        return #expect(throws: FormatError.self) { try ModelSources.open(folder.path) }?.description ?? ""
    }

    @Test("What is packed in another way is refused by name")
    func refusals() throws {
        func config(_ key: String, _ value: Any, _ c: Case = Case()) throws -> String {
            try refusal(c) { $0.config["quantization_config"] = c.config.merging([key: value]) { $1 } }
        }
        #expect(try config("bits", 3).contains("bits"))
        #expect(try config("group_size", 48).contains("group_size"))
        #expect(try config("checkpoint_format", "marlin").contains("marlin"))
        #expect(try config("parrot", 1).contains("parrot"))
        #expect(try config("dynamic", ["a": 1]).contains("dynamic"))
        #expect(try config("version", "gemv", Case(method: "awq")).contains("gemv"))
        #expect(try config("bits", 3, Case(method: "awq")).contains("bits"))
        #expect(try config("group_size", 64).contains("do not fit"))
    }

    @Test("What compressed-tensors packs in another way is refused by name")
    func compressedRefusals() throws {
        let packed = Case(method: "compressed-tensors", isWide: false)
        func config(_ change: (inout [String: Any], inout [String: Any]) -> Void) throws -> String {
            try refusal(packed) { model in
                var config = packed.config
                var group = (config["config_groups"] as? [String: [String: Any]])?["group_0"] ?? [:]
                var weights = group["weights"] as? [String: Any] ?? [:]
                change(&config, &weights)
                group["weights"] = weights
                var groups = ["group_0": group]
                if let other = config.removeValue(forKey: "other") as? [String: Any] {
                    groups["group_1"] = group.merging(["weights": weights.merging(other) { $1 }]) { $1 }
                }
                config["config_groups"] = groups
                model.config["quantization_config"] = config
            }
        }
        for (key, value) in [
            ("num_bits", 3), ("num_bits", 6), ("type", "float"), ("strategy", "tensor"), ("strategy", "block"),
            ("group_size", 48), ("group_size", NSNull()), ("dynamic", true), ("parrot", 1),
        ] as [(String, Any)] {
            #expect(try config { $1[key] = value }.contains("\"\(key)\""), "\(key) \(value)")
        }
        for format in ["marlin-24", "mixed-precision", "int-quantized", "nvfp4-pack-quantized"] {
            #expect(try config { config, _ in config["format"] = format }.contains(format))
        }
        #expect(try config { config, _ in config["other"] = ["num_bits": 8] }.contains("in another way"))
        #expect(try config { $1["group_size"] = 64 }.contains("do not fit"))
    }

    @Test("Tensors of compressed-tensors that are missing or do not fit each other are refused by name")
    func compressedTensors() throws {
        let module = "model.layers.1.mlp.down_proj"
        let packed = Case(method: "compressed-tensors", isWide: false)
        func changing(_ part: String, _ change: (inout SafetensorsBuilder.Tensor) -> Void) throws -> String {
            try refusal(packed) { model in
                if let index = model.weights.tensors.firstIndex(where: { $0.name == "\(module).\(part)" }) {
                    change(&model.weights.tensors[index])
                }
            }
        }
        for part in ["weight_packed", "weight_zero_point", "weight_scale", "weight_shape"] {
            let text = try refusal(packed) { $0.weights.tensors.removeAll { $0.name == "\(module).\(part)" } }
            #expect(text.contains(module), "\(part)")
        }
        #expect(try changing("weight_shape") { $0.data[8] = 100 }.contains("weight_shape"))
        #expect(try changing("weight_shape") { $0.data[15] = 255 }.contains("weight_shape"))
        #expect(try changing("weight_scale") { $0.shape.reverse() }.contains("do not fit"))
        #expect(try changing("weight_zero_point") { $0.shape.reverse() }.contains("do not fit"))
        // What a symmetric model has no use for.
        let symmetric = Case(method: "compressed-tensors", isSymmetric: true)
        let text = try refusal(symmetric) {
            $0.weights.add("\(module).weight_zero_point", [1, 1], [Int32(0)])
        }
        #expect(text.contains("weight_zero_point"))
    }

    @Test("Tensors that are missing or do not fit each other are refused by name")
    func tensors() throws {
        let module = "model.layers.1.mlp.down_proj"
        func changing(_ part: String, _ change: (inout SafetensorsBuilder.Tensor) -> Void) throws -> String {
            try refusal(Case(order: .plain)) { model in
                if let index = model.weights.tensors.firstIndex(where: { $0.name == "\(module).\(part)" }) {
                    change(&model.weights.tensors[index])
                }
            }
        }
        for part in ["qweight", "qzeros", "scales"] {
            #expect(
                try refusal { $0.weights.tensors.removeAll { $0.name == "\(module).\(part)" } }.contains(module))
            #expect(try changing(part) { $0.type = part == "scales" ? "I16" : "F32" }.contains("\(module).\(part)"))
        }
        #expect(try changing("g_idx") { $0.data[0] = 200 }.contains("g_idx"))
        #expect(try changing("g_idx") { $0.data[3] = 255 }.contains("g_idx"))
        #expect(try changing("scales") { $0.shape = [2, 128] }.contains("scales"))
        #expect(try changing("qzeros") { $0.shape.reverse() }.contains("qzeros"))
    }
}
