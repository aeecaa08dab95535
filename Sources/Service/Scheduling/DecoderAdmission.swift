import EbbProtocol
import Engine
import Governor

/// Letting requests in: all memory that a generation may take is promised before it begins. Used by the engine thread
/// alone.
extension HostedDecoder {
    /// Takes a generation on: it begins at once, or waits until memory for all that it may take is there.
    /// - Parameter mayWait: throws where no more may wait.
    /// - Throws: ``ServiceError`` where it cannot be served.
    func submit(_ request: GenerationRequest, _ handle: GenerationHandle, mayWait: () throws -> Void) throws {
        guard request.adapters.allSatisfy({ $0.adapter.fits(decoder) }) else {
            throw ServiceError(.modelUnusable, "\(name) was loaded anew meanwhile", retryAfter: 100)
        }
        requests += 1
        let goal = goal(request)
        let entry = QueuedGeneration(
            member: FairQueue.Member(id: requests, origin: request.origin), request: request, handle: handle,
            goal: goal, bytes: decoder.kvBytes(tokens: goal))
        if queue.entries.isEmpty, isWithinShare(entry), begin(entry) { return }
        // Who waits already begins at the next turn, if not before: then there is something to wait for.
        guard isAwaited || !queue.entries.isEmpty, entry.bytes <= desk.room else { throw refusal(entry) }
        try mayWait()
        queue.append(entry)
        beginWaiting()
    }

    /// Tokens that a request's KV cache holds at most.
    private func goal(_ request: GenerationRequest) -> Int {
        let (sum, overflow) = request.prompt.count.addingReportingOverflow(request.maxTokens ?? .max)
        return min(decoder.contextLimit, overflow ? .max : sum)
    }

    /// Whether generations run, here or elsewhere, whose memory will come back.
    private var isAwaited: Bool { !running.isEmpty || desk.isAwaited }

    private func refusal(_ entry: QueuedGeneration) -> ServiceError {
        let what = "a context of \(entry.request.prompt.count) tokens and its answer"
        let help = "Fewer tokens (max_tokens) take less"
        let need = "\(what) needs \(Admission.mib(entry.bytes)) of KV cache"
        guard entry.bytes <= desk.room else {
            return ServiceError(
                .outOfMemory,
                "\(need); there is room for \(Admission.mib(desk.room)) in all. \(help), or raise memoryBudget in the settings"
            )
        }
        if let (why, isLasting) = desk.refusal(what, entry.bytes) {
            return .noMemory("\(why). \(help)", isLasting: isLasting, retryAfter: 1000)
        }
        return ServiceError(
            .outOfMemory, "\(need); others hold what Ebb may take for now. \(help)", retryAfter: 5000)
    }

    private func isWithinShare(_ entry: QueuedGeneration) -> Bool {
        let room = min(desk.room, decoder.kvPool.capacity * decoder.kvPool.blockBytes)
        let holders = running.map { KVAdmission.Holder(origin: $0.request.origin, bytes: $0.bytes) }
        return KVAdmission(holders: holders, room: room).isWithinShare(entry.bytes, of: entry.request.origin)
    }

    func beginWaiting() {
        hasRoomChanged = false
        while let entry = queue.first(where: isWithinShare) {
            if begin(entry) {
                queue.remove(entry, cost: entry.goal)
            } else if !isAwaited, entry.bytes > desk.room || desk.refusal("a context", entry.bytes) != nil {
                // The room has become smaller since it was accepted.
                entry.handle.send(.failed(refusal(entry)))
                queue.remove(entry, cost: 0)
            } else {
                return
            }
        }
    }

    /// Lets a generation begin if all that it may take can be promised: blocks of the pool, and bytes of the ledger. Kept
    /// conversations give way. False where there is no room.
    private func begin(_ entry: QueuedGeneration) -> Bool {
        let (request, arithmetic) = (entry.request, arithmetic(entry.request))
        if let match = prefixes.match(
            request.prompt, uid: request.origin.uid, adapters: request.adapters, steady: arithmetic != nil),
            let fork = prefixes.fork(match, now: MonotonicClock.now()),
            let promise = promise(fork.sequence, to: entry.goal)
        {
            run(entry, fork.sequence, arithmetic, [promise, fork.promise].compactMap { $0 })
            return true
        }
        let sequence = decoder.makeSequence()
        guard let promise = promise(sequence, to: entry.goal) else { return false }
        run(entry, sequence, arithmetic, [promise])
        return true
    }

    private func run(
        _ entry: QueuedGeneration, _ sequence: KVSequence, _ arithmetic: Generation.Arithmetic?,
        _ promises: [Ledger.Reservation]
    ) {
        running.append(
            Generation(
                entry, Generation.Start(sequence: sequence, arithmetic: arithmetic, promises: promises),
                model: decoder, modeChanges: modeChanges))
    }

    private func promise(_ sequence: KVSequence, to goal: Int) -> Ledger.Reservation? {
        while true {
            let blocks = sequence.outstandingBlocks(to: goal)
            let bytes = blocks * decoder.kvPool.blockBytes
            let promised = running.reduce(0) { $0 + $1.sequence.outstandingBlocks(to: $1.goal) }
            let free = decoder.kvPool.availableBlocks - promised
            if blocks <= free {
                if let promise = desk.promise(.kv, bytes) { return promise }
                guard desk.giveWay(for: bytes) else { return nil }
            } else {
                let kept = prefixes.byteCount / decoder.kvPool.blockBytes
                guard prefixes.count > 0, blocks <= free + kept else { return nil }
                prefixes.dropOldest()
            }
        }
    }
}
