/// How each matrix of a model is quantized: rules, the first that matches a name counts. Written into every quantized
/// file, so that a run can be repeated.
public struct Recipe: Codable, Sendable, Hashable {
    /// One rule. `keep` excludes the other fields.
    public struct Rule: Codable, Sendable, Hashable {
        /// A regular expression that a whole name must match.
        public var tensors: String
        public var bits: Int?
        /// -1: a scale a channel.
        public var block: Int?
        public var asymmetric: Bool?
        /// 16 or 32.
        public var scaleBits: Int?
        public var method: QuantizationMethod?
        /// The input has fixed scales from a calibration.
        public var fixedInput: Bool?
        public var keep: Kept?

        /// The names that a rule may have in a file.
        public static var keys: [String] { CodingKeys.allCases.map(\.rawValue) }

        enum CodingKeys: String, CodingKey, CaseIterable {
            case tensors, bits, block, asymmetric, method, keep
            case scaleBits = "scale_bits"
            case fixedInput = "fixed_input"
        }

        public init(
            tensors: String, bits: Int, block: Int, asymmetric: Bool, scaleBits: Int = 16, method: QuantizationMethod,
            fixedInput: Bool = false
        ) {
            (self.tensors, self.bits, self.block, self.asymmetric) = (tensors, bits, block, asymmetric)
            (self.scaleBits, self.method) = (scaleBits, method)
            self.fixedInput = fixedInput ? true : nil
        }

        public init(tensors: String, keep: Kept) { (self.tensors, self.keep) = (tensors, keep) }
    }

    public enum Kept: String, Codable, Sendable {
        /// As the source has it.
        case source
        case f16, f32
    }

    public var rules: [Rule]

    public init(_ rules: [Rule]) { self.rules = rules }

    /// The rules as treatments.
    /// - Throws: ``SchemeError`` for an impossible width, block or combination.
    public func treatment(_ rule: Rule) throws -> Treatment {
        if let kept = rule.keep {
            switch kept {
            case .source: return .source
            case .f16: return .float(.f16)
            case .f32: return .float(.f32)
            }
        }
        guard let bits = rule.bits else {
            throw SchemeError("the rule for \"\(rule.tensors)\" needs \"bits\" or \"keep\"")
        }
        guard [16, 32].contains(rule.scaleBits ?? 16) else {
            throw SchemeError("scales of \(rule.scaleBits ?? 0) bits: 16 and 32 are possible")
        }
        let scheme = try Scheme(
            bits: bits, block: rule.block ?? 32, asymmetric: rule.asymmetric ?? true,
            scale: rule.scaleBits == 32 ? .f32 : .f16)
        if rule.fixedInput == true {
            guard scheme == Scheme.fixedInput else {
                throw SchemeError("fixed inputs need 8 bit, symmetric, per channel, scales of 16 bits")
            }
        }
        return .quantized(scheme, rule.method ?? .minmax, fixedInput: rule.fixedInput ?? false)
    }
}

extension Scheme {
    /// What a weight with a fixed input scale has: 8 bit, symmetric, one f16 scale a channel.
    public static let fixedInput: Scheme? = try? Scheme(bits: 8, block: -1, asymmetric: false)
}

/// What happens to one matrix.
public enum Treatment: Sendable, Hashable {
    case source
    case float(Encoding)
    case quantized(Scheme, QuantizationMethod, fixedInput: Bool)

    /// Whether the method looks at the weights' inputs.
    public var needsCalibration: Bool { if case .quantized(_, .gptq, _) = self { true } else { false } }
}
