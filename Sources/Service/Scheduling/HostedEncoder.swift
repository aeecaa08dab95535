import EbbProtocol
import Engine
import Governor
import Synchronization

/// Texts that a client wants embedded, in tokens.
final class EmbeddingRequest: Cancellable {
    let texts: [[Int32]]
    private let cancelled = Atomic<Bool>(false)
    private let answer = Mutex<CheckedContinuation<[[Float]], any Error>?>(nil)

    init(texts: [[Int32]]) { self.texts = texts }

    func cancel() { cancelled.store(true, ordering: .relaxed) }

    var isCancelled: Bool { cancelled.load(ordering: .relaxed) }

    /// Hands the request on, and waits for its embeddings.
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

/// An encoder and the texts that wait for it: a step takes texts of several requests together. Used by the engine
/// thread alone.
final class HostedEncoder: HostedModel {
    private struct Job {
        let request: EmbeddingRequest
        var embeddings: [[Float]] = []
    }

    private let encoder: EncoderModel
    private var jobs: [Job] = []

    init(name: String, encoder: EncoderModel, wish: ModelState.Wish, choice: StateFolder.Choice) {
        self.encoder = encoder
        super.init(name: name, model: encoder, wish: wish, choice: choice)
    }

    override var activeRequests: Int { jobs.count }

    func add(_ request: EmbeddingRequest) { jobs.append(Job(request: request)) }

    override func runStep() -> Bool {
        for job in jobs where job.request.isCancelled { job.request.finish(.failure(ServiceError.cancelled)) }
        jobs.removeAll { $0.request.isCancelled }
        guard !jobs.isEmpty else { return false }
        let (texts, owners) = batch()
        do {
            encoder.isBypassed = bypasses(manyRows: true)
            let embeddings = try encoder.embedEach(texts)
            guard !encoder.file.isCutShort else { throw Self.cutShort(name) }
            promptTokens += texts.reduce(0) { $0 + $1.count }
            var failed: Set<Int> = []
            for (owner, embedding) in zip(owners, embeddings) {
                switch embedding {
                case .success(let values): jobs[owner].embeddings.append(values)
                case .failure(let error):
                    jobs[owner].request.finish(.failure(ServiceError(.modelUnusable, "\(name): \(error)")))
                    failed.insert(owner)
                }
            }
            for owner in failed.sorted(by: >) { jobs.remove(at: owner) }
        } catch {
            for owner in Set(owners).sorted(by: >) {
                jobs.remove(at: owner).request.finish(.failure(ServiceError.of(error)))
            }
        }
        for job in jobs where job.embeddings.count == job.request.texts.count {
            job.request.finish(.success(job.embeddings))
        }
        jobs.removeAll { $0.embeddings.count == $0.request.texts.count }
        return true
    }

    /// The next texts that fill a step, and the job that each belongs to.
    private func batch() -> ([[Int32]], [Int]) {
        var (texts, owners): ([[Int32]], [Int]) = ([], [])
        var rows = 0
        for (index, job) in jobs.enumerated() {
            for text in job.request.texts.dropFirst(job.embeddings.count) {
                rows += text.count
                if rows > EncoderModel.rowLimit, !texts.isEmpty { return (texts, owners) }
                texts.append(text)
                owners.append(index)
            }
        }
        return (texts, owners)
    }

    override func failAll(_ error: ServiceError) {
        for job in jobs { job.request.finish(.failure(error)) }
        jobs = []
    }
}
