import Engine
import ModelFormat
import Text

/// A model opened to be measured: an encoder or a decoder, from any source. What is no `.ebb` file is copied into one in a
/// temporary folder, without changing a value.
public final class RunnableModel {
    public let file: EbbFile
    public let model: LayeredModel
    public let tokenizer: Tokenizer
    private let temporary: WorkFolder?

    /// Tokens of a decoder's text at most.
    private static let textLimit = 512

    /// - Parameters:
    ///   - expanded: dequantized mode; else memory_low.
    ///   - precision: of dequantized mode; f32 is exact.
    /// - Throws: ``FormatError``, `TextError` or `EngineError`.
    public convenience init(
        _ source: any ModelSource, expanded: Bool, precision: ExpandedPrecision = .f32, threads: Int
    ) throws {
        if let source = source as? EbbSource {
            try self.init(source.file, temporary: nil, expanded: expanded, precision: precision, threads: threads)
        } else {
            let folder = try WorkFolder()
            let path = folder.file()
            try ModelImport(source).write(to: path, checking: ModelFamilies.check)
            try self.init(
                try EbbFile(path: path), temporary: folder, expanded: expanded, precision: precision, threads: threads)
        }
    }

    private init(
        _ file: EbbFile, temporary: WorkFolder?, expanded: Bool, precision: ExpandedPrecision, threads: Int
    ) throws {
        self.file = file
        self.temporary = temporary
        let kernels = try Kernels.fromEnvironment()
        let pool = try WorkerPool(threads: threads)
        if EncoderModel.isEncoder(file) {
            let encoder = try EncoderModel(file, pool: pool, kernels: kernels, precision: precision)
            (model, tokenizer) = (encoder, encoder.tokenizer)
        } else {
            let decoder = try DecoderModel(
                file, pool: pool, kernels: kernels,
                options: ModelOptions(contextLimit: 2048, sequences: 2, precision: precision))
            (model, tokenizer) = (decoder, decoder.tokenizer)
        }
        try model.setAll(expanded: expanded)
    }

    public var isEncoder: Bool { model is EncoderModel }

    /// The tokens of texts, cut to what the model takes at a time.
    public func tokens(_ texts: [String]) -> [[Int32]] {
        if let encoder = model as? EncoderModel { return texts.map(encoder.tokens) }
        return texts.map { Array(tokenizer.encode($0, addSpecial: true, parseSpecial: false).prefix(Self.textLimit)) }
            .filter { !$0.isEmpty }
    }
}
