import EbbProtocol
import Engine
import Governor

/// A loaded model with the requests that run on it; ``HostedDecoder`` and ``HostedEncoder`` say what these are. Used by
/// the engine thread alone.
class HostedModel {
    let name: String
    let model: LayeredModel
    var wish: ModelState.Wish
    /// Layers whose expansion is under way.
    var expanding: Set<Int> = []
    /// Times that a layer changed its mode.
    private(set) var modeChanges = 0

    init(name: String, model: LayeredModel, wish: ModelState.Wish) {
        self.name = name
        self.model = model
        self.wish = wish
    }

    var activeRequests: Int { 0 }

    /// Runs one step with every request that is ready. False if there was nothing to do.
    func step() -> Bool { false }

    /// Ends all requests.
    func failAll(_ error: ServiceError) {}

    var state: ModelState {
        ModelState(
            name: name, wish: wish, layerBytes: (0..<model.layerCount).map(model.expandedBytes),
            expanded: (0..<model.layerCount).map(model.isExpanded), active: activeRequests > 0)
    }

    func install(_ layer: ExpandedLayer) {
        model.install(layer)
        modeChanges += 1
    }

    func drop(_ layer: Int) {
        model.drop(layer)
        modeChanges += 1
    }

    var status: EbbModelStatus {
        var status = EbbModelStatus()
        status.name = name
        status.architecture = model.file.metadata.string("general.architecture") ?? ""
        status.mode = wish.protocolMode
        status.layers = UInt32(model.layerCount)
        status.expandedLayers = UInt32(model.expandedLayers)
        status.mappedBytes = UInt64(model.mappedBytes)
        status.residentBytes = UInt64(model.file.residentBytes)
        status.expandedBytes = UInt64(model.expandedBytes)
        status.kvBytes = UInt64(model.kvBytes)
        status.scratchBytes = UInt64(model.scratchBytes)
        status.activeRequests = UInt32(activeRequests)
        status.contextTokens = UInt32(model.contextLimit)
        return status
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
