import Conversion
import Engine
import EbbProtocol
import ModelFormat
import TestKit

@testable import Service

/// A hosted decoder without a thread: a test drives its steps.
struct HostedTestModel {
    let hosted: HostedDecoder
    let ledger: Ledger
    private let folder: TemporaryFolder

    enum Kind: CaseIterable, Sendable { case llama, gemma }

    /// - Parameters:
    ///   - quantizes: to 8 bits, so that the modes differ.
    ///   - sequences: whole contexts (256 tokens) that the pool has blocks for.
    ///   - room: bytes that the ledger may promise.
    init(
        _ kind: Kind = .llama, quantizes: Bool = false, sequences: Int = 16, room: Int = 1 << 40,
        prefixBytes: Int = 0
    ) throws {
        let folder = try TemporaryFolder()
        let source = try folder.write("tiny.gguf", kind == .llama ? TinyLlama.gguf() : TinyGemma.gguf())
        let gguf = try ModelSources.open(source)
        if quantizes {
            let recipe = QuantizationPlan.uniform(bits: 4, block: 32, asymmetric: true, method: .minmax)
            try Quantizer(gguf, calibration: nil, threads: 1).write(
                try QuantizationPlan(gguf, recipe), to: folder.file("tiny.ebb"))
        } else {
            try ModelImport(gguf).write(to: folder.file("tiny.ebb"))
        }
        try self.init(
            try EbbFile(path: folder.file("tiny.ebb")), folder, sequences: sequences, room: room,
            prefixBytes: prefixBytes)
    }

    init(
        _ file: EbbFile, _ folder: TemporaryFolder, sequences: Int = 16, room: Int = 1 << 40, prefixBytes: Int = 0,
        contextLimit: Int? = nil
    ) throws {
        self.folder = folder
        let decoder = try DecoderModel(
            file, pool: try WorkerPool(threads: 2), kernels: try Kernels.fromEnvironment(),
            options: ModelOptions(contextLimit: contextLimit, sequences: sequences))
        ledger = Ledger(room: room)
        let desk = AdmissionDesk(ledger: ledger)
        hosted = HostedDecoder(
            name: "tiny", decoder: decoder, wish: .auto, choice: StateFolder.Choice(), prefixBytes: prefixBytes,
            desk: desk)
        desk.models = { [unowned hosted] in [hosted] }
    }

    /// A request of a connection; each may take whole contexts where `tokens` is nil.
    static func request(
        _ prompt: [Int32], tokens: Int?, uid: UInt32 = 1, connection: UInt64 = 1, seed: UInt64? = nil
    ) -> GenerationRequest {
        GenerationRequest(
            prompt: prompt,
            sampling: SamplingParameters(temperature: 1, topK: 0, topP: 1, minP: 0, seed: seed), maxTokens: tokens,
            origin: RequestOrigin(uid: uid, connection: connection))
    }

    /// Runs steps until nothing is left to do.
    func runAll() {
        for _ in 0..<100_000 where hosted.activeRequests > 0 { turn() }
    }

    func turn() {
        hosted.attend(now: 0)
        _ = hosted.step()
    }
}

extension GenerationHandle {
    /// All that the client is told; the generation must have ended.
    func answer() async -> (text: String, summary: GenerationSummary?, error: ServiceError?) {
        var text = ""
        for await event in events {
            switch event {
            case .delta(let part, _): text += part.text
            case .finished(let summary): return (text, summary, nil)
            case .failed(let error): return (text, nil, error)
            }
        }
        return (text, nil, nil)
    }
}
