/// When the sources are to be asked again. Pure; times are seconds of a clock that never jumps.
///
/// While somebody waits for an answer, memory is scarce and there is something to give, or something is being made, it is
/// a few times a second. Else it is when the kernel or a person wakes the monitor, at the moment at which time alone changes
/// something, and now and then while a model is loaded that scarce memory would take something from, or that more memory
/// would be used for. Nothing loaded, nobody there: not at all.
public struct LookPlan: Sendable, Equatable {
    /// What is loaded wants of the monitor while nobody waits for an answer.
    public struct Outlook: Sendable, Equatable {
        /// Whether something is being made that scarce memory would end.
        public var isMoving = false
        /// Whether scarce memory would take something away.
        public var canGive = false
        /// Whether more memory would be used for something.
        public var canGrow = false
        /// When time alone changes what is decided; nil for never.
        public var moment: Double?

        public init() {}
    }

    /// Seconds between two looks while something goes on.
    public var interval: Double
    /// Requests and subscriptions that have not been answered.
    public var open = 0
    /// When the last of them was answered, and when the kernel last woke the monitor.
    public var closedAt = -Double.infinity
    public var stirredAt = -Double.infinity
    /// Whether somebody waits for what the sources say.
    public var isAsked = true
    public var outlook = Outlook()

    // What the last look found.
    public var lookedAt = -Double.infinity
    public var level: PressureLevel = .nominal
    /// When time alone changes what was found; nil for never.
    public var changesAt: Double?
    /// Whether the kernel tells at once when the whole system gets short of memory.
    public var hasTriggers = false

    /// Seconds that looks go on a few times a second after the last answer, or after the kernel stirred: until the buffers
    /// of steps are given back and what is left has been measured.
    public static let tail = 3.0
    /// Seconds between two looks when nothing goes on, with and without triggers.
    public static let slow = (triggers: 15.0, none: 1.0)

    public init(interval: Double) { self.interval = interval }

    /// Whether nobody waits for an answer, nor did lately.
    public func isQuiet(now: Double) -> Bool { open == 0 && now >= closedAt + Self.tail }

    /// When to look next; nil: when something is told.
    public var next: Double? {
        if isAsked { return -.infinity }
        let soon = lookedAt + interval
        if goesOn { return soon }
        let watches = outlook.canGive || outlook.canGrow
        let poll = watches ? lookedAt + (hasTriggers ? Self.slow.triggers : Self.slow.none) : nil
        // Never sooner than what goes on is looked at: what is due and was not done must not keep the monitor awake.
        return [poll, outlook.moment, changesAt].compactMap { $0 }.min().map { max($0, soon) }
    }

    private var goesOn: Bool {
        if !isQuiet(now: lookedAt) || outlook.isMoving { return true }
        return outlook.canGive && (level > .nominal || lookedAt < stirredAt + Self.tail)
    }
}
