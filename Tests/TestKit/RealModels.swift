import Foundation
import ModelFormat
import Synchronization

/// The models that tests run: fetched by `make test` (scripts/fetch-model) into the cache, imported once a process.
public enum RealModel: String, Sendable {
    case smollm2 = "smollm2"
    case qwen2 = "qwen2"
    case gemma3 = "gemma3"
    /// A Hugging Face folder.
    case minilm = "minilm"
    /// Hugging Face folders, for `make test-large`.
    case mpnet = "mpnet"
    case embeddinggemma = "embeddinggemma"
    /// For `make test-large`.
    case qwen2Large = "qwen2-1.5b"

    /// Whether tests run that need models of many hundred MB.
    public static var testsLarge: Bool { ProcessInfo.processInfo.environment["EBB_TEST_LARGE"] != nil }

    private var isFolder: Bool { [.minilm, .mpnet, .embeddinggemma].contains(self) }

    /// The GGUF, or the folder, in the cache.
    /// - Throws: where it has not been fetched.
    public var path: String {
        get throws {
            let path = "\(FetchedFiles.cache)/models/\(rawValue)\(isFolder ? "" : ".gguf")"
            guard FileManager.default.fileExists(atPath: path) else {
                throw FormatError("\(path) is missing: `make test` fetches it (scripts/fetch-model \(rawValue))")
            }
            return path
        }
    }

    private static let imported = Mutex<[RealModel: EbbFile]>([:])
    private static let folder = Mutex<TemporaryFolder?>(nil)

    /// A folder with the models that have been imported.
    public static func store() throws -> ModelStore {
        try folder.withLock { folder in
            let current = try folder ?? TemporaryFolder()
            folder = current
            return ModelStore(folder: current.path)
        }
    }

    /// The model, imported.
    public func open() throws -> EbbFile {
        let store = try Self.store()
        return try Self.imported.withLock { imported in
            if let file = imported[self] { return file }
            try ModelImport(try ModelSources.open(try path)).write(to: try store.path(of: rawValue))
            let file = try store.open(rawValue)
            imported[self] = file
            return file
        }
    }
}
