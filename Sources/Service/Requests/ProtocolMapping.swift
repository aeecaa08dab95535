import EbbProtocol
import Engine
import Foundation
import Governor

// The service's values as the protocol's messages, and back: the one place where they meet.

extension SamplingParameters {
    /// The defaults, but for the fields that a client has set.
    init(_ sampling: EbbSampling) {
        self.init()
        if sampling.hasTemperature { temperature = sampling.temperature }
        if sampling.hasTopK { topK = Int(sampling.topK) }
        if sampling.hasTopP { topP = sampling.topP }
        if sampling.hasMinP { minP = sampling.minP }
        if sampling.hasRepetitionPenalty { repetitionPenalty = sampling.repetitionPenalty }
        if sampling.hasSeed { seed = sampling.seed }
    }
}

extension EbbFinished {
    init(_ summary: GenerationSummary) {
        self.init()
        reason = summary.reason == .stop ? .stop : .length
        promptTokens = UInt32(clamping: summary.promptTokens)
        generatedTokens = UInt32(clamping: summary.generatedTokens)
        prefillUs = UInt64(max(0, summary.prefillSeconds * 1e6))
        decodeUs = UInt64(max(0, summary.decodeSeconds * 1e6))
        modeChanges = UInt32(clamping: summary.modeChanges)
        reusedTokens = UInt32(clamping: summary.reusedTokens)
    }
}

extension ModelState.Wish {
    init?(_ mode: EbbMode) {
        switch mode {
        case .auto: self = .auto
        case .dequantized: self = .dequantized
        case .memoryLow: self = .memoryLow
        case .UNRECOGNIZED: return nil
        }
    }

    var protocolMode: EbbMode {
        switch self {
        case .auto: .auto
        case .dequantized: .dequantized
        case .memoryLow: .memoryLow
        }
    }
}

extension ModelState.Preference {
    init?(_ preference: EbbPreference) {
        switch preference {
        case .accuracy: self = .accuracy
        case .speed: self = .speed
        case .memory: self = .memory
        case .UNRECOGNIZED: return nil
        }
    }

    var protocolPreference: EbbPreference {
        switch self {
        case .accuracy: .accuracy
        case .speed: .speed
        case .memory: .memory
        }
    }
}

extension EbbModeCosts {
    init(_ costs: ModeCosts) {
        self.init()
        prefillRatio = Float(costs.prefillRatio)
        decodeRatio = Float(costs.decodeRatio)
        loss = Float(costs.loss)
    }
}

extension EbbEvent {
    /// A level, with the reason for it.
    init(_ view: PressureView) {
        self.init()
        kind = .level
        what = "\(view.level)"
        level = EbbLevel(rawValue: view.level.rawValue) ?? .nominal
        reason = view.reason
    }

    /// The level when someone subscribes.
    init(present view: PressureView) {
        self.init(view)
        timeMs = UInt64(Date().timeIntervalSince1970 * 1000)
    }
}

extension RequestPriority {
    init?(_ priority: EbbPriority) {
        switch priority {
        case .normal: self = .normal
        case .interactive: self = .interactive
        case .background: self = .background
        case .UNRECOGNIZED: return nil
        }
    }
}
