import ArgumentParser
import Conversion
import ModelFormat
import Quantization

/// How a model is quantized; the command line's form of a recipe.
struct QuantizationOptions: ParsableArguments {
    enum Symmetry: EnumerableFlag {
        case asymmetric, symmetric

        static func help(for value: Symmetry) -> ArgumentHelp? {
            value == .asymmetric
                ? "w = scale * q + offset (default)." : "w = scale * (q - 2^(bits-1)): smaller, a little less exact."
        }
    }

    @Option(name: [.long, .customLong("weightQuantBits")], help: "Bits of a weight, 2 to 8 (default: 4).")
    var weightBits: Int?

    @Option(
        name: [.long, .customLong("weightQuantBlock")], parsing: .unconditional,
        help: "Weights that share a scale: 16, 32, 64, 128, 256, or -1 for a channel (default: 32).")
    var block: Int?

    @Flag var symmetry: Symmetry?

    @Option(help: "How scales are chosen: minmax, mse, hqq, or gptq, which needs --calibration (default: minmax).")
    var method: QuantizationMethod?

    @Flag(help: "Short for --method hqq.")
    var hqq = false

    @Option(help: "Bits of a scale, 16 or 32 (default: 16).")
    var scaleBits: Int?

    @Flag(help: "Store weights as f16 instead of quantizing them.")
    var fp16 = false

    @Option(
        help: ArgumentHelp(
            "Leave matrices whose whole name matches as floats: as the source has them, or f16 where it has them quantized.",
            valueName: "regex"))
    var keep: String?

    @Option(help: ArgumentHelp("Take bits, block and method of each matrix from a file.", valueName: "file.json"))
    var recipe: String?

    @Option(
        help: ArgumentHelp(
            "Typical texts, one a line, for --method gptq, --target-size and --max-loss.", valueName: "file")
    )
    var calibration: String?

    func validate() throws {
        let chosen = weightBits != nil || block != nil || symmetry != nil || method != nil || hqq || scaleBits != nil
        if fp16, chosen || recipe != nil { throw ValidationError("--fp16 excludes the options of quantization.") }
        if recipe != nil, chosen || keep != nil {
            throw ValidationError("--recipe says all; leave the other options out.")
        }
        if hqq, let method, method != .hqq { throw ValidationError("--hqq is --method hqq; leave one of them out.") }
        if let weightBits, !(2...8).contains(weightBits) {
            throw ValidationError("--weight-bits \(weightBits): 2 to 8 are possible.")
        }
        if let block, ![-1, 16, 32, 64, 128, 256].contains(block) {
            throw ValidationError("--block \(block): 16, 32, 64, 128, 256 or -1 (per channel) are possible.")
        }
        if let scaleBits, ![16, 32].contains(scaleBits) { throw ValidationError("--scale-bits takes 16 or 32.") }
        if method == .gptq, calibration == nil {
            throw ValidationError("--method gptq needs --calibration FILE: some hundred typical texts, one a line.")
        }
    }

    var choosesScheme: Bool {
        weightBits != nil || block != nil || symmetry != nil || method != nil || hqq || scaleBits != nil || fp16
            || recipe != nil
    }

    var chosenMethod: QuantizationMethod { method ?? (hqq ? .hqq : .minmax) }

    /// The recipe that the options describe.
    func chosenRecipe(for source: any ModelSource) throws -> Recipe {
        if let recipe { return try RecipeFile.read(recipe) }
        let kept: Recipe.Kept = source.isQuantized ? .f16 : .source
        if fp16 {
            var rules = QuantizationPlan.halves.rules
            if let keep { rules.insert(.init(tensors: keep, keep: .f32), at: 0) }
            return Recipe(rules)
        }
        return QuantizationPlan.uniform(
            bits: weightBits ?? 4, block: block ?? 32, asymmetric: symmetry != .symmetric, scaleBits: scaleBits ?? 16,
            method: chosenMethod, keep: keep, kept: kept)
    }
}

extension QuantizationMethod: ExpressibleByArgument {}
