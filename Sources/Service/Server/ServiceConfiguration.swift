import Engine
import Governor

/// How the service is set up.
public struct ServiceConfiguration: Sendable {
    /// Folder of models.
    public var models: String
    /// Path of the socket. Not used where a listening socket is handed over.
    public var socket: String
    /// A listening Unix socket from the service manager.
    public var inheritedSocket: Int32?
    public var threads: Int
    public var kernels: Kernels
    public var model: ModelOptions
    /// The mode of a model until someone asks for another.
    public var defaultWish: ModelState.Wish
    /// Group that may load, unload and set modes, beside root and the daemon's user.
    public var adminGroup: String?
    /// What clients may take at most.
    public var limits: ServiceLimits
    public var templateVariables = TemplateVariables()
    /// How long requests may go on when the service is told to stop.
    public var grace: Duration
    public var policy: Policy
    public var sources: [any PressureSource]
    /// Folder for what is remembered over restarts, and for parked conversations; nil to remember nothing.
    public var state: String?
    /// Bytes of KV cache that a model may keep for conversations that may go on.
    public var prefixBytes: Int
    /// Whether a model is measured in both modes after its first load.
    public var probesModes: Bool
    /// Bytes that the system, and the own control group, could give now.
    public var availableBytes: @Sendable () -> Int
    /// How often the sources are asked while something goes on.
    public var governorInterval: Duration
    /// Seconds of calm before a level is left.
    public var levelDwell: Double

    public init(models: String, socket: String, threads: Int, kernels: Kernels) {
        self.models = models
        self.socket = socket
        self.threads = threads
        self.kernels = kernels
        model = ModelOptions()
        defaultWish = .auto
        limits = ServiceLimits()
        grace = .seconds(30)
        policy = Self.defaultPolicy
        state = nil
        prefixBytes = 64 << 20
        probesModes = true
        availableBytes = PressureSources.availableBytes
        sources = PressureSources.ofThisSystem()
        governorInterval = .milliseconds(250)
        levelDwell = 5
    }

    /// Ebb takes at most a quarter of the memory that the process may have, and leaves an eighth of it available: on a laptop of 8 GB that is 2 GB
    /// for models, and 1 GB for what is opened next; the desktop and a browser keep three quarters. The reserve lies above
    /// the tenth at which MemAvailable counts as pressure, so that Ebb steps back before anything else notices.
    public static var defaultPolicy: Policy {
        let total = MemoryLimit.now().bytes
        return Policy(budget: total / 4, reserve: total / 8)
    }
}
