import EbbProtocol
import Engine
import Governor
import Synchronization

/// Texts that a client wants embedded, or pairs that it wants scored, in tokens.
final class EmbeddingRequest: Sendable {
    let texts: [EncoderText]
    let origin: RequestOrigin
    private let cancelled = Atomic<Bool>(false)
    private let answer = Mutex<CheckedContinuation<[[Float]], any Error>?>(nil)

    init(texts: [EncoderText], origin: RequestOrigin) {
        self.texts = texts
        self.origin = origin
    }

    func cancel() { cancelled.store(true, ordering: .relaxed) }

    var isCancelled: Bool { cancelled.load(ordering: .relaxed) }

    /// Hands the request on, and waits for its embeddings; for a reranker's scores, one each.
    func wait(_ submit: (EmbeddingRequest) -> Void) async throws -> [[Float]] {
        try await withCheckedThrowingContinuation { continuation in
            answer.withLock { $0 = continuation }
            submit(self)
        }
    }

    /// Answers; only the first answer counts.
    func finish(_ result: Result<[[Float]], any Error>) {
        let continuation = answer.withLock { answer in
            defer { answer = nil }
            return answer
        }
        continuation?.resume(with: result)
    }
}

/// An encoder and the texts that wait for it: a step takes texts of several requests together, a few of each in turn.
/// Used by the engine thread alone.
final class HostedEncoder: HostedModel {
    private struct Job {
        let member: FairQueue.Member
        let request: EmbeddingRequest
        /// Texts that are in a step or done, and what came of them.
        var begun = 0
        var embeddings: [[Float]] = []

        var left: ArraySlice<EncoderText> { request.texts.dropFirst(begun) }
    }

    private let encoder: EncoderModel
    var model: LayeredModel { encoder }
    var record: HostedRecord
    private var jobs: [Job] = []
    private var order = FairQueue(quantum: HostedEncoder.quantum)
    private var requests: UInt64 = 0

    /// Rows of a turn: some short texts, or a part of what a long one costs.
    private static let quantum = 64
    /// Rows of a step while several connections wait: what one text may be long.
    private static let sharedRows = 256
    private static let rows = 512

    init(name: String, encoder: EncoderModel, wish: ModelState.Wish, choice: StateFolder.Choice) {
        self.encoder = encoder
        record = HostedRecord(name: name, model: encoder, wish: wish, choice: choice)
    }

    var activeRequests: Int { jobs.count }
    var waiting: [RequestOrigin] { jobs.lazy.filter { $0.begun == 0 }.map(\.request.origin) }
    var urgency: RequestPriority? { jobs.map(\.request.origin.priority).min { $0.rawValue < $1.rawValue } }

    /// Takes texts on.
    /// - Parameter mayWait: throws where no more may wait.
    func submit(_ request: EmbeddingRequest, mayWait: () throws -> Void) throws {
        try mayWait()
        requests += 1
        jobs.append(Job(member: FairQueue.Member(id: requests, origin: request.origin), request: request))
    }

    func attend(now: Double) {
        for job in jobs {
            let error = job.request.isCancelled ? .cancelled : ServiceError.late(job.request.origin, now: now)
            if let error { fail([job.member.id], error) }
        }
    }

    private func fail(_ ids: Set<UInt64>, _ error: ServiceError) {
        for job in jobs where ids.contains(job.member.id) { job.request.finish(.failure(error)) }
        jobs.removeAll { ids.contains($0.member.id) }
    }

    func runStep() -> Bool {
        let (texts, owners) = nextTexts()
        guard !texts.isEmpty else { return false }
        do {
            encoder.isBypassed = bypasses(manyRows: true)
            let embeddings = try encoder.runEach(texts)
            guard !encoder.file.isCutShort else { throw ServiceError.changedFile(name) }
            record.promptTokens += texts.reduce(0) { $0 + $1.tokens.count }
            var failed: [UInt64: EngineError] = [:]
            for (owner, embedding) in zip(owners, embeddings) {
                switch embedding {
                case .success(let values): jobs[owner].embeddings.append(values)
                case .failure(let error): failed[jobs[owner].member.id] = error
                }
            }
            for (id, error) in failed { fail([id], ServiceError.of(error)) }
        } catch {
            fail(Set(owners.map { jobs[$0].member.id }), ServiceError.of(error))
        }
        conclude()
        return true
    }

    /// Answers the jobs that are done, if the file is still what their embeddings were computed from.
    private func conclude() {
        let done = jobs.filter { $0.embeddings.count == $0.request.texts.count }
        guard !done.isEmpty else { return }
        guard isFileIntact else { return fail(Set(done.map(\.member.id)), .changedFile(name)) }
        for job in done { job.request.finish(.success(job.embeddings)) }
        jobs.removeAll { $0.embeddings.count == $0.request.texts.count }
    }

    /// The next texts that fill a step, and the place of the job that each belongs to.
    private func nextTexts() -> ([EncoderText], [Int]) {
        let ready = jobs.contains { $0.request.origin.priority != .background }
        let wanted = jobs.indices.filter { !ready || jobs[$0].request.origin.priority != .background }
        order.keep(jobs.map(\.member))
        let isShared = Set(wanted.map { jobs[$0].request.origin.connection }).count > 1
        var room = isShared ? Self.sharedRows : Self.rows
        var (texts, owners): ([EncoderText], [Int]) = ([], [])
        while true {
            let open = wanted.filter { !jobs[$0].left.isEmpty }
            guard let member = order.next(open.map { jobs[$0].member }),
                let index = open.first(where: { jobs[$0].member.id == member.id }), let text = jobs[index].left.first,
                text.tokens.count <= room || texts.isEmpty
            else { return (texts, owners) }
            order.charge(member, text.tokens.count)
            jobs[index].begun += 1
            room -= text.tokens.count
            texts.append(text)
            owners.append(index)
        }
    }

    func failAll(_ error: ServiceError) {
        for job in jobs { job.request.finish(.failure(error)) }
        jobs = []
    }

    // MARK: What is given up: an encoder keeps nothing between two steps

    var prefixBytes: Int { 0 }
    var oldestPrefix: Double? { nil }
    func dropOldestPrefix() {}
    func dropPrefixes() -> Int { 0 }
    func compactKV(blocks: Int) -> Int { 0 }

    func park(in folder: String?) -> String? {
        putAside()
        return nil
    }

    func wake() { takeUpAgain() }

    var status: EbbModelStatus { commonStatus }
}
