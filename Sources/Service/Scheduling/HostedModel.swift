import EbbProtocol
import Engine
import Governor

/// A loaded model with the requests that run on it. Used by the engine thread alone.
final class HostedModel {
    let name: String
    let model: DecoderModel
    var wish: ModelState.Wish
    private(set) var generations: [Generation] = []
    /// Layers whose expansion is under way.
    var expanding: Set<Int> = []
    /// Times that a layer changed its mode.
    private(set) var modeChanges = 0
    private var prefillRate = 0.0
    private var decodeRate = 0.0

    /// Prompt tokens a step takes while others wait for their next token: keeps their pauses short.
    private static let sharedPrefill = 128

    init(name: String, model: DecoderModel, wish: ModelState.Wish) {
        self.name = name
        self.model = model
        self.wish = wish
    }

    var state: ModelState {
        ModelState(
            name: name, wish: wish, layerBytes: (0..<model.layerCount).map(model.expandedBytes),
            expanded: (0..<model.layerCount).map(model.isExpanded), active: !generations.isEmpty)
    }

    func add(_ request: GenerationRequest, _ handle: GenerationHandle) {
        generations.append(Generation(request, handle: handle, model: model, modeChanges: modeChanges))
    }

    /// Runs one step with every request that is ready. False if there was nothing to do.
    func step() -> Bool {
        let ready = generations.filter { $0.isReady() }
        defer { generations.removeAll { $0.isDone } }
        guard !ready.isEmpty else { return false }
        let (batch, members) = batch(ready)
        do {
            try model.run(batch) { index, _, logits in members[index].take(logits, modeChanges: modeChanges) }
        } catch {
            for member in members { member.fail(ServiceError.of(error)) }
        }
        for generation in members where generation.isDone { remember(generation) }
        return true
    }

    private func batch(_ ready: [Generation]) -> ([StepInput], [Generation]) {
        var members: [Generation] = []
        var batch: [StepInput] = []
        for generation in ready where !generation.isPrefilling && batch.count < model.rowLimit {
            guard let input = generation.input(room: 1) else { continue }
            batch.append(input)
            members.append(generation)
        }
        var room = batch.isEmpty ? model.rowLimit : min(Self.sharedPrefill, model.rowLimit - batch.count)
        for generation in ready where generation.isPrefilling && room > 0 {
            guard let input = generation.input(room: room) else { continue }
            room -= input.tokens.count
            batch.append(input)
            members.append(generation)
        }
        return (batch, members)
    }

    private func remember(_ generation: Generation) {
        if generation.prefillSeconds > 0 {
            prefillRate = Double(generation.request.prompt.count) / generation.prefillSeconds
        }
        if generation.generated > 1, generation.decodeSeconds > 0 {
            decodeRate = Double(generation.generated - 1) / generation.decodeSeconds
        }
    }

    /// Ends all requests.
    func failAll(_ error: ServiceError) {
        for generation in generations { generation.fail(error) }
        generations = []
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
        status.kvBytes = UInt64(model.kvPool.usedBytes)
        status.scratchBytes = UInt64(model.scratchBytes)
        status.activeRequests = UInt32(generations.count)
        status.contextTokens = UInt32(model.contextLimit)
        status.prefillRate = Float(prefillRate)
        status.decodeRate = Float(decodeRate)
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
