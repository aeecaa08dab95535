import EbbProtocol
import Engine
import Governor

/// A decoder and its generations: continuous batching. Used by the engine thread alone.
final class HostedDecoder: HostedModel {
    let decoder: DecoderModel
    var model: LayeredModel { decoder }
    var record: HostedRecord
    /// Where memory is asked for; set when an engine takes the model on.
    var desk: AdmissionDesk
    var running: [Generation] = []
    var queue = GenerationQueue()
    private var plan = StepPlan()
    var prefixes: PrefixCache
    var adapters = AdapterShelf()
    private var parking: ParkingFile?
    private var rates = (prefill: 0.0, decode: 0.0)
    private let patience: Double
    var requests: UInt64 = 0
    /// Whether memory has come back since a waiting generation last asked for some; that of other models is asked for
    /// now and then.
    var hasRoomChanged = false
    private var nextTry = 0.0

    private static let tryInterval = 0.05

    init(
        name: String, decoder: DecoderModel, wish: ModelState.Wish, choice: StateFolder.Choice, prefixBytes: Int,
        limits: ServiceLimits = ServiceLimits(), desk: AdmissionDesk = AdmissionDesk(ledger: Ledger(room: .max))
    ) {
        self.decoder = decoder
        self.desk = desk
        prefixes = PrefixCache(limit: prefixBytes)
        patience = limits.slowReaderSeconds
        record = HostedRecord(name: name, model: decoder, wish: wish, choice: choice)
    }

    deinit { parking?.remove() }

    var activeRequests: Int { running.count + queue.entries.count }
    var waiting: [RequestOrigin] { queue.entries.map(\.request.origin) }

    var urgency: RequestPriority? {
        running.lazy.filter(isReady).map(\.request.origin.priority).min { $0.rawValue < $1.rawValue }
    }

    // MARK: Between steps

    /// What all steps of a reproducible request are computed in: what the model is pinned to, or memory_low.
    func arithmetic(_ request: GenerationRequest) -> Generation.Arithmetic? {
        guard request.isReproducible || request.sampling.seed != nil else { return nil }
        return wish == .dequantized ? .dequantized : .memoryLow
    }

    func attend(now: Double) {
        for generation in running { generation.attend(now: now, patience: patience) }
        // An operator's word ends what can only go on in the other mode.
        for generation in running where generation.arithmetic == .dequantized && wish != .dequantized {
            generation.fail(
                ServiceError(
                    .modelUnusable, "the mode of \(name) was changed by hand while a reproducible request ran",
                    retryAfter: 100))
        }
        forgetEnded()
        for entry in queue.entries {
            guard let error = entry.handle.isCancelled ? .cancelled : ServiceError.late(entry.request.origin, now: now)
            else { continue }
            entry.handle.send(.failed(error))
            queue.removeAll { $0.member.id == entry.member.id }
        }
        guard !queue.entries.isEmpty, hasRoomChanged || now >= nextTry else { return }
        nextTry = now + Self.tryInterval
        beginWaiting()
    }

    private func forgetEnded() {
        let before = running.count
        running.removeAll { $0.isDone }
        if running.count < before { hasRoomChanged = true }
    }

    // MARK: Steps

    /// Generations that go through the layers together.
    private struct Batch {
        /// nil: as the layers are.
        var arithmetic: Generation.Arithmetic?
        var shares: [(generation: Generation, rows: Int)] = []
    }

    private func isReady(_ generation: Generation) -> Bool {
        guard !generation.isStalled, !generation.isDone else { return false }
        return generation.arithmetic != .dequantized || isWhollyExpanded
    }

    private var isWhollyExpanded: Bool {
        (0..<decoder.unitCount).allSatisfy { decoder.isExpanded($0) || decoder.expandedBytes($0) == 0 }
    }

    func runStep() -> Bool {
        let ready = running.filter(isReady)
        let shares = plan.next(
            ready.map {
                StepPlan.Candidate(member: $0.member, prompt: $0.promptLeft, isCutEvenly: $0.arithmetic != nil)
            })
        guard !shares.isEmpty else { return false }
        for batch in batches(shares.map { (ready[$0.candidate], $0.rows) }) { run(batch) }
        conclude()
        return true
    }

    /// Cuts a step into batches. What a reproducible request computes does not depend on the others: its next token goes
    /// with few others, its prompt alone.
    private func batches(_ shares: [(generation: Generation, rows: Int)]) -> [Batch] {
        var ordinary = Batch()
        var batches: [Batch] = []
        for share in shares {
            guard let arithmetic = share.generation.arithmetic else {
                if let place = ordinary.shares.firstIndex(where: { $0.generation === share.generation }) {
                    ordinary.shares[place].rows += share.rows
                } else {
                    ordinary.shares.append(share)
                }
                continue
            }
            // What adapters add is computed in floats, which several rows add in another order.
            let isPlain = share.generation.request.adapters.isEmpty
            let most = isPlain ? decoder.steadyRows(isDequantized: arithmetic == .dequantized) : 1
            let place = batches.firstIndex {
                let first = $0.shares[0].generation
                return $0.arithmetic == arithmetic && $0.shares.count < most && first.promptLeft == 0
                    && first.request.adapters.isEmpty
            }
            if share.generation.promptLeft == 0, let place {
                batches[place].shares.append(share)
            } else {
                batches.append(Batch(arithmetic: arithmetic, shares: [share]))
            }
        }
        return ordinary.shares.isEmpty ? batches : [ordinary] + batches
    }

    /// Rows from which on a step counts as prefill where the modes differ in speed.
    private static let manyRows = 16

    private func run(_ batch: Batch) {
        var (members, inputs): ([Generation], [StepInput]) = ([], [])
        for (generation, rows) in batch.shares where !generation.isDone {
            let prompt = generation.promptLeft
            guard let input = generation.input(rows: rows) else { continue }
            record.promptTokens += prompt - generation.promptLeft
            members.append(generation)
            inputs.append(input)
        }
        let rows = inputs.reduce(0) { $0 + $1.tokens.count }
        decoder.isBypassed =
            switch batch.arithmetic {
            case .memoryLow: true
            case .dequantized: false
            case nil: bypasses(manyRows: rows >= Self.manyRows)
            }
        do {
            try decoder.run(inputs) { index, error in
                members[index].fail(ServiceError.of(error))
            } onLogits: { index, _, logits in
                // Weights that could not be read make no tokens.
                guard !decoder.file.isCutShort else { return members[index].fail(.changedFile(name)) }
                guard members[index].hasWholeAdapters else { return members[index].fail(.changedAdapter(of: name)) }
                members[index].accept(logits)
            }
        } catch {
            for member in members { member.fail(ServiceError.of(error)) }
        }
        record.generatedTokens += members.count { $0.promptLeft == 0 }
    }

    /// Ends the generations that have come to their end, if the file is still what their answers were computed from.
    private func conclude() {
        let ended = running.filter { $0.ending != nil && !$0.isDone }
        if !ended.isEmpty {
            let isIntact = isFileIntact
            for generation in ended {
                guard isIntact else {
                    generation.fail(.changedFile(name))
                    continue
                }
                guard generation.hasIntactAdapters else {
                    generation.fail(.changedAdapter(of: name))
                    continue
                }
                generation.conclude(modeChanges: modeChanges)
                remember(generation)
            }
        }
        forgetEnded()
    }

    private func remember(_ generation: Generation) {
        let fresh = generation.request.prompt.count - generation.reused
        if generation.prefillSeconds > 0 { rates.prefill = Double(fresh) / generation.prefillSeconds }
        if generation.generated > 1, generation.decodeSeconds > 0 {
            rates.decode = Double(generation.generated - 1) / generation.decodeSeconds
        }
        let (sequence, request) = (generation.sequence, generation.request)
        guard sequence.count > 0 else { return }
        // The last piece of the prompt, and the answer, were computed in fewer rows than a prompt's pieces are.
        let steady =
            generation.arithmetic != nil && generation.arithmetic == arithmetic(request)
            ? request.prompt.count / StepPlan.piece * StepPlan.piece : 0
        let entry = PrefixCache.Entry(
            tokens: Array(generation.tokens.prefix(sequence.count)), sequence: sequence, uid: request.origin.uid,
            isShared: request.sharesPrefix, adapters: request.adapters, steadyTokens: steady, used: MonotonicClock.now()
        )
        prefixes.keep(entry) { desk.promise(.prefixes, $0) }
    }

    func failAll(_ error: ServiceError) {
        for generation in running { generation.fail(error) }
        for entry in queue.entries { entry.handle.send(.failed(error)) }
        running = []
        queue = GenerationQueue()
    }

    // MARK: What is given up

    var prefixBytes: Int { prefixes.entries.reduce(0) { $0 + ($1.promise?.bytes ?? 0) } }
    var oldestPrefix: Double? { prefixes.oldest }

    func dropOldestPrefix() {
        prefixes.dropOldest()
        hasRoomChanged = true
    }

    func dropPrefixes() -> Int {
        hasRoomChanged = true
        return prefixes.drop()
    }

    /// Reproducible requests keep theirs as it is.
    func compactKV(blocks: Int) -> Int {
        var turned = 0
        for generation in running where turned < blocks && generation.arithmetic == nil {
            turned += generation.sequence.compact(most: blocks - turned)
        }
        return turned
    }

    func park(in folder: String?) -> String? {
        var lost: String?
        // What an adapter had a part in would have to be known as that adapter's again.
        let kept = prefixes.entries.filter(\.adapters.isEmpty)
        if !kept.isEmpty, let folder {
            let file = ParkingFile(in: folder, of: decoder, named: name)
            do {
                try file.write(kept.map(\.parked))
                parking = file
            } catch {
                lost = "its conversations were dropped: \(error)"
            }
        }
        _ = prefixes.drop()
        adapters = AdapterShelf()
        putAside()
        return lost
    }

    func wake() {
        takeUpAgain()
        guard let parking else { return }
        self.parking = nil
        // What cannot be read, or has no room, costs the time of a prefill, nothing else.
        for entry in (try? parking.take(decoder.makeSequence)) ?? [] {
            prefixes.keep(PrefixCache.Entry(entry)) { desk.promise(.prefixes, $0) }
        }
    }

    var adapterRegions: [MemoryRegion] { adapters.regions }

    var status: EbbModelStatus {
        var status = commonStatus
        status.prefillRate = Float(rates.prefill)
        status.decodeRate = Float(rates.decode)
        status.adapters = adapters.names
        status.prefixes = UInt32(prefixes.count)
        status.prefixBytes = UInt64(prefixes.byteCount)
        status.kvBlocks = UInt32(decoder.kvPool.usedBlocks)
        status.kvBlocksInt8 = UInt32(decoder.kvPool.int8Blocks)
        status.reservedKvBytes = UInt64(running.reduce(0) { $0 + $1.promisedBytes })
        return status
    }
}
