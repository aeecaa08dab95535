import EbbProtocol
import Engine
import Governor

/// A decoder and its generations: continuous batching. Used by the engine thread alone.
final class HostedDecoder: HostedModel {
    let decoder: DecoderModel
    private var generations: [Generation] = []
    private var prefixes: PrefixCache
    private var parking: ParkingFile?
    private var prefillRate = 0.0
    private var decodeRate = 0.0

    /// Prompt tokens a step takes while others wait for their next token: keeps their pauses short.
    private static let sharedPrefill = 128
    /// Rows from which on a step counts as prefill where the modes differ in speed.
    private static let manyRows = 16

    init(
        name: String, decoder: DecoderModel, wish: ModelState.Wish, choice: StateFolder.Choice, prefixBytes: Int
    ) {
        self.decoder = decoder
        prefixes = PrefixCache(limit: prefixBytes)
        super.init(name: name, model: decoder, wish: wish, choice: choice)
    }

    deinit { parking?.remove() }

    override var activeRequests: Int { generations.count }

    func add(_ request: GenerationRequest, _ handle: GenerationHandle) {
        let sequence = prefixes.sequence(for: request.prompt) ?? decoder.makeSequence()
        generations.append(
            Generation(request, handle: handle, model: decoder, sequence: sequence, modeChanges: modeChanges))
    }

    /// Bytes of KV cache that a request will take: its prompt, and what it may generate, as far as that is said.
    func kvBytes(of request: GenerationRequest) -> Int {
        decoder.kvBytes(tokens: request.prompt.count + (request.maxTokens ?? Self.assumedTokens))
    }

    private static let assumedTokens = 256

    override func runStep() -> Bool {
        let ready = generations.filter { $0.isReady() }
        defer { generations.removeAll { $0.isDone } }
        guard !ready.isEmpty else { return false }
        let (batch, members) = batch(ready)
        let rows = batch.reduce(0) { $0 + $1.tokens.count }
        decoder.isBypassed = bypasses(manyRows: rows >= Self.manyRows)
        do {
            try decoder.run(batch) { index, error in
                members[index].fail(ServiceError(.modelUnusable, "\(name): \(error)"))
            } onLogits: { index, _, logits in
                // Weights that could not be read make no tokens.
                guard !decoder.file.isCutShort else { return members[index].fail(Self.cutShort(name)) }
                members[index].take(logits, modeChanges: modeChanges)
            }
        } catch {
            for member in members { member.fail(ServiceError.of(error)) }
        }
        generatedTokens += members.count { !$0.isPrefilling }
        for generation in members where generation.isDone { remember(generation) }
        return true
    }

    private func batch(_ ready: [Generation]) -> ([StepInput], [Generation]) {
        var members: [Generation] = []
        var batch: [StepInput] = []
        func makeRoom() -> Bool { dropPrefixes() > 0 }
        for generation in ready where !generation.isPrefilling && batch.count < decoder.rowLimit {
            guard let input = generation.input(room: 1, makeRoom: makeRoom) else { continue }
            batch.append(input)
            members.append(generation)
        }
        var room = batch.isEmpty ? decoder.rowLimit : min(Self.sharedPrefill, decoder.rowLimit - batch.count)
        for generation in ready where generation.isPrefilling && room > 0 {
            guard let input = generation.input(room: room, makeRoom: makeRoom) else { continue }
            room -= input.tokens.count
            promptTokens += input.tokens.count
            batch.append(input)
            members.append(generation)
        }
        return (batch, members)
    }

    private func remember(_ generation: Generation) {
        let fresh = generation.request.prompt.count - generation.reused
        if generation.prefillSeconds > 0 { prefillRate = Double(fresh) / generation.prefillSeconds }
        if generation.generated > 1, generation.decodeSeconds > 0 {
            decodeRate = Double(generation.generated - 1) / generation.decodeSeconds
        }
        let sequence = generation.sequence
        if sequence.count > 0 { prefixes.keep(Array(generation.tokens.prefix(sequence.count)), sequence) }
    }

    /// Ends all requests.
    override func failAll(_ error: ServiceError) {
        for generation in generations { generation.fail(error) }
        generations = []
    }

    // MARK: What the governor does

    override func dropPrefixes() -> Int { prefixes.drop() }

    override func compactKV(blocks: Int) -> Int {
        var turned = 0
        for generation in generations where turned < blocks {
            turned += generation.sequence.compact(most: blocks - turned)
        }
        return turned
    }

    override func park(in folder: String?) -> String? {
        var lost: String?
        if prefixes.count > 0, let folder {
            let file = ParkingFile(path: "\(folder)/\(name).kv")
            do {
                try file.write(prefixes.entries)
                parking = file
            } catch {
                lost = "its conversations were dropped: \(error)"
            }
        }
        _ = prefixes.drop()
        _ = super.park(in: folder)
        return lost
    }

    override func wake() {
        super.wake()
        guard let parking else { return }
        self.parking = nil
        // What cannot be read costs the time of a prefill, nothing else.
        if let entries = try? parking.take(decoder.makeSequence) { prefixes.replace(with: entries) }
    }

    override var status: EbbModelStatus {
        var status = super.status
        status.prefillRate = Float(prefillRate)
        status.decodeRate = Float(decodeRate)
        status.prefixes = UInt32(prefixes.count)
        status.prefixBytes = UInt64(prefixes.byteCount)
        status.kvBlocks = UInt32(decoder.kvPool.usedBlocks)
        status.kvBlocksInt8 = UInt32(decoder.kvPool.int8Blocks)
        return status
    }
}
