/// What the policy knows of a model.
public struct ModelState: Sendable, Equatable {
    /// The operator's word.
    public enum Wish: Sendable { case auto, dequantized, memoryLow }

    /// What free memory is used for while the wish is ``Wish/auto``.
    public enum Preference: String, Sendable, CaseIterable, Codable {
        /// Expand when there is room: the most exact.
        case accuracy
        /// Whichever mode was measured as faster.
        case speed
        /// Never expand.
        case memory
    }

    /// What has a mode of its own: a layer, or an expert of one.
    public struct Unit: Sendable, Equatable {
        /// Bytes that its expansion takes.
        public var bytes: Int
        /// What its expansion gains; only the ratio to other units of the model counts. See `ModeProbe`.
        public var gain: Double
        public var isExpanded: Bool
        /// Seconds since its expansion was taken away.
        public var sinceDrop: Double

        public init(bytes: Int, gain: Double = 1, isExpanded: Bool = false, sinceDrop: Double = .infinity) {
            (self.bytes, self.gain, self.isExpanded, self.sinceDrop) = (bytes, gain, isExpanded, sinceDrop)
        }
    }

    public var name: String
    public var wish: Wish
    public var preference: Preference
    /// Models of higher priority are served first.
    public var priority: Int
    public var units: [Unit]
    /// Whether the probe measured dequantized as faster, in prefill or decode.
    public var isFasterExpanded: Bool
    /// Whether requests are running.
    public var isActive: Bool
    /// Seconds without a request.
    public var idle: Double
    /// Whether it has been put aside, and whether it keeps something for later requests.
    public var isParked = false
    public var keepsPrefixes = false

    public init(
        name: String, wish: Wish = .auto, preference: Preference = .accuracy, priority: Int = 0, units: [Unit],
        isFasterExpanded: Bool = false, isActive: Bool = false, idle: Double = 0
    ) {
        self.name = name
        self.wish = wish
        self.preference = preference
        self.priority = priority
        self.units = units
        self.isFasterExpanded = isFasterExpanded
        self.isActive = isActive
        self.idle = idle
    }

    /// Whether the governor may expand its units.
    var mayExpand: Bool {
        switch (wish, preference) {
        case (.auto, .accuracy): true
        case (.auto, .speed): isFasterExpanded
        default: false
        }
    }

    /// Bytes of what is expanded.
    public var expandedBytes: Int { units.reduce(0) { $0 + ($1.isExpanded ? $1.bytes : 0) } }
}
