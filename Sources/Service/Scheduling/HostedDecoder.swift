import EbbProtocol
import Engine
import Governor

/// A decoder and its generations: continuous batching. Used by the engine thread alone.
final class HostedDecoder: HostedModel {
    private let decoder: DecoderModel
    private var generations: [Generation] = []
    private var prefillRate = 0.0
    private var decodeRate = 0.0

    /// Prompt tokens a step takes while others wait for their next token: keeps their pauses short.
    private static let sharedPrefill = 128

    init(name: String, decoder: DecoderModel, wish: ModelState.Wish) {
        self.decoder = decoder
        super.init(name: name, model: decoder, wish: wish)
    }

    override var activeRequests: Int { generations.count }

    func add(_ request: GenerationRequest, _ handle: GenerationHandle) {
        generations.append(Generation(request, handle: handle, model: decoder, modeChanges: modeChanges))
    }

    /// Runs one step with every request that is ready. False if there was nothing to do.
    override func step() -> Bool {
        let ready = generations.filter { $0.isReady() }
        defer { generations.removeAll { $0.isDone } }
        guard !ready.isEmpty else { return false }
        let (batch, members) = batch(ready)
        do {
            try decoder.run(batch) { index, _, logits in members[index].take(logits, modeChanges: modeChanges) }
        } catch {
            for member in members { member.fail(ServiceError.of(error)) }
        }
        for generation in members where generation.isDone { remember(generation) }
        return true
    }

    private func batch(_ ready: [Generation]) -> ([StepInput], [Generation]) {
        var members: [Generation] = []
        var batch: [StepInput] = []
        for generation in ready where !generation.isPrefilling && batch.count < decoder.rowLimit {
            guard let input = generation.input(room: 1) else { continue }
            batch.append(input)
            members.append(generation)
        }
        var room = batch.isEmpty ? decoder.rowLimit : min(Self.sharedPrefill, decoder.rowLimit - batch.count)
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
    override func failAll(_ error: ServiceError) {
        for generation in generations { generation.fail(error) }
        generations = []
    }

    override var status: EbbModelStatus {
        var status = super.status
        status.prefillRate = Float(prefillRate)
        status.decodeRate = Float(decodeRate)
        return status
    }
}
