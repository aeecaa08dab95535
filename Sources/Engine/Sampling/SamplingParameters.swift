/// How the next token is chosen from the logits.
public struct SamplingParameters: Sendable, Hashable {
    /// 0 is greedy: the largest logit.
    public var temperature: Float
    /// Keep the k most probable tokens; 0 keeps all.
    public var topK: Int
    /// Keep the smallest set of tokens whose probability reaches p (Holtzman et al. 2020); 1 keeps all.
    public var topP: Float
    /// Keep tokens at least this share as probable as the most probable one (Nguyen et al. 2024); 0 keeps all.
    public var minP: Float
    /// Divides (where positive, else multiplies) the logits of recent tokens (Keskar et al. 2019); 1 is off.
    public var repetitionPenalty: Float
    /// Tokens that count as recent.
    public var penaltyWindow: Int
    /// Equal seeds give equal texts; nil draws one.
    public var seed: UInt64?

    public static let greedy = SamplingParameters(temperature: 0)

    public init(
        temperature: Float = 0.8, topK: Int = 40, topP: Float = 0.95, minP: Float = 0.05, repetitionPenalty: Float = 1,
        penaltyWindow: Int = 64, seed: UInt64? = nil
    ) {
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.repetitionPenalty = repetitionPenalty
        self.penaltyWindow = penaltyWindow
        self.seed = seed
    }

    /// - Throws: ``EngineError`` that names the value out of range.
    public func validate() throws {
        guard temperature.isFinite, (0...100).contains(temperature) else {
            throw EngineError("temperature must be 0 to 100")
        }
        guard topK >= 0 else { throw EngineError("top-k must not be negative") }
        guard topP > 0, topP <= 1 else { throw EngineError("top-p must be above 0 and at most 1") }
        guard (0...1).contains(minP) else { throw EngineError("min-p must be 0 to 1") }
        guard repetitionPenalty > 0, repetitionPenalty <= 10 else {
            throw EngineError("the repetition penalty must be above 0 and at most 10")
        }
        guard (0...65536).contains(penaltyWindow) else { throw EngineError("the penalty window must be 0 to 65536") }
    }
}
