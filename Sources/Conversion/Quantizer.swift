import Engine
import Foundation
import ModelFormat
import Quantization

/// Writes quantized files by any method: what `quantize`, mixed precision and advice have in common.
public struct Quantizer {
    private let source: any ModelSource
    private let calibration: [String]?
    private let threads: Int

    /// - Parameter calibration: texts for GPTQ; nil where there are none.
    public init(_ source: any ModelSource, calibration: [String]?, threads: Int) {
        (self.source, self.calibration, self.threads) = (source, calibration, threads)
    }

    /// - Throws: ``FormatError`` where a method needs calibration texts and there are none, where the result is no model
    ///   that can be run, or what else goes wrong.
    public func write(_ plan: QuantizationPlan, to path: String, progress: (Double) -> Void = { _ in }) throws {
        var copy = QuantizedCopy(source, plan, jobs: threads)
        if plan.needsCalibration {
            guard let calibration else {
                throw FormatError("gptq needs calibration texts: --calibration FILE, one text a line")
            }
            // Opened anew for each run: GPTQ replaces the weights of the model that it walks through.
            let model = try RunnableModel(source, expanded: false, threads: threads)
            copy.codes =
                try GPTQRun(source, plan, model: model, texts: model.tokens(calibration), jobs: threads).codes
        }
        try copy.write(to: path, checking: ModelFamilies.check, progress: progress)
    }

    /// Full-graph INT8.
    public func write(_ int8: FullInt8, to path: String, progress: (Double) -> Void = { _ in }) throws
        -> QuantizationPlan
    {
        let plan = try QuantizationPlan(source, int8.recipe)
        var copy = QuantizedCopy(source, plan, jobs: threads)
        copy.columnFactors = int8.columnFactors
        copy.vectors = int8.vectors
        try copy.write(to: path, checking: ModelFamilies.check, progress: progress)
        return plan
    }
}
