import Foundation
import ModelFormat
import Quantization

/// A recipe applied to a model: what becomes of every tensor, and how large the result is.
public struct QuantizationPlan: Sendable {
    public struct Item: Sendable {
        public let tensor: SourceTensor
        public let treatment: Treatment
        /// As it lies in the new file.
        public let shape: TensorShape
    }

    /// In the order of the file: what belongs to no layer, then layer by layer.
    public let items: [Item]
    /// The recipe with one rule for each matrix.
    public let recipe: Recipe

    /// - Throws: ``FormatError`` or `SchemeError`: an impossible rule, a rule that names no matrix of the model, a recipe
    ///   without rules.
    public init(_ source: any ModelSource, _ recipe: Recipe) throws {
        guard !source.tensors.contains(where: { $0.name.hasSuffix(".input_scale") }) else {
            throw FormatError("\(source.path) is calibrated for full INT8 already: quantize what it was made of")
        }
        guard !recipe.rules.isEmpty else { throw FormatError("the recipe names no layer: it has no rules") }
        let patterns = try recipe.rules.map { rule in
            do {
                return (rule, try Regex(rule.tensors), try recipe.treatment(rule))
            } catch let error as SchemeError {
                throw error
            } catch {
                throw FormatError("\"\(rule.tensors)\" is no regular expression: \(error)")
            }
        }
        var used = Set<Int>()
        var exact: [Recipe.Rule] = []
        var items: [Item] = []
        for tensor in source.tensors.sorted(by: { Self.order($0.name) < Self.order($1.name) }) {
            guard !tensor.isVector else {
                items.append(Item(tensor: tensor, treatment: .source, shape: tensor.shape))
                continue
            }
            let index = patterns.firstIndex { tensor.name.wholeMatch(of: $0.1) != nil }
            if let index { used.insert(index) }
            var treatment = index.map { patterns[$0].2 } ?? .source
            // Padded to a tile, so few channels would save next to nothing (BERT's two token types, added to every row); nor
            // would few values in each (MPNet's biases by distance, one a head).
            let isSmall = tensor.n < 16 || tensor.k < 32
            if case .quantized = treatment, isSmall || Self.staysFloat(tensor.name) { treatment = .source }
            items.append(Item(tensor: tensor, treatment: treatment, shape: Self.shape(tensor, treatment)))
            var rule = Recipe.Rule(tensors: "", keep: .source)
            if treatment != .source, let index { rule = patterns[index].0 }
            rule.tensors = NSRegularExpression.escapedPattern(for: tensor.name)
            exact.append(rule)
        }
        if let unused = recipe.rules.indices.first(where: { !used.contains($0) }), recipe.rules[unused].tensors != ".*"
        {
            throw FormatError(
                "the recipe's rule \"\(recipe.rules[unused].tensors)\" names no matrix of \(source.path) "
                    + "(ebbctl inspect lists them)")
        }
        guard !used.isEmpty else { throw FormatError("\(source.path) has no matrix to quantize") }
        self.items = Self.withoutOrders(items)
        self.recipe = Recipe(exact)
    }

    /// What is quantized anew reads its input as it comes.
    private static func withoutOrders(_ items: [Item]) -> [Item] {
        let changed = Set(items.filter { $0.treatment != .source }.map { $0.tensor.name + InputOrderTensor.suffix })
        return items.filter { !changed.contains($0.tensor.name) }
    }

    /// Experts' biases, a row for each expert, and the router that chooses experts: small, and a step reads them as floats.
    private static func staysFloat(_ name: String) -> Bool {
        name.hasSuffix(".bias") || name.hasSuffix(".ffn_gate_inp.weight")
    }

    /// Layers in their order, after everything else; names keep their order within a layer.
    private static func order(_ name: String) -> Int { layer(of: name) ?? -1 }

    /// The number in `blk.N.`; nil for tensors of no layer. The output head comes last.
    public static func layer(of name: String) -> Int? {
        if name.hasPrefix("output") { return Int.max }
        guard name.hasPrefix("blk.") else { return nil }
        return Int(name.dropFirst(4).prefix { $0 != "." })
    }

    private static func shape(_ tensor: SourceTensor, _ treatment: Treatment) -> TensorShape {
        switch treatment {
        case .source: tensor.shape
        case .float(let encoding):
            TensorShape(name: tensor.name, layout: .matrix(encoding), n: tensor.n, k: tensor.k)
        case .quantized(let scheme, _, _):
            TensorShape(name: tensor.name, layout: .matrix(.quantized(scheme)), n: tensor.n, k: tensor.k)
        }
    }

    /// Whether a method needs calibration texts.
    public var needsCalibration: Bool {
        items.contains { $0.treatment.needsCalibration }
    }

    public var quantizedNames: Set<String> {
        Set(items.filter { if case .quantized = $0.treatment { true } else { false } }.map(\.tensor.name))
    }

    /// The same for every matrix, but for names that match `keep`, which are kept as floats.
    public static func uniform(
        bits: Int, block: Int, asymmetric: Bool, scaleBits: Int = 16, method: QuantizationMethod, keep: String? = nil,
        kept: Recipe.Kept = .source
    ) -> Recipe {
        var rules: [Recipe.Rule] = []
        if let keep { rules.append(.init(tensors: keep, keep: kept)) }
        rules.append(
            .init(
                tensors: ".*", bits: bits, block: block, asymmetric: asymmetric, scaleBits: scaleBits, method: method))
        return Recipe(rules)
    }

    /// All matrices as f16.
    public static let halves = Recipe([.init(tensors: ".*", keep: .f16)])
}
