import Engine
import ModelFormat
import Synchronization
import Text

/// The folder of models, as it is on the disk. What was read of a file is kept until the file is another. Everything here
/// waits for the disk: for the ``TextPool``'s file lane alone.
final class ModelCatalog: Sendable {
    /// A model of the folder.
    typealias Entry = FolderReadings<ModelSummary>.Entry

    /// What turns texts into a model's tokens, of the files that were asked for last; the most recently used last.
    private typealias Texts = [(name: String, identity: FileIdentity, text: ModelText)]

    let store: ModelStore
    private let summaries: FolderReadings<ModelSummary>
    private let texts = Mutex<Texts>([])

    /// Models that are not loaded of which is kept what texts need.
    private static let mostTexts = 4
    /// Characters of a foreign text that are passed on.
    static let mostCharacters = 400
    /// Names that an error lists.
    static let mostNames = 32

    init(_ store: ModelStore) {
        self.store = store
        summaries = FolderReadings(store) { ModelSummary($0) }
    }

    /// All models of the folder, by name.
    /// - Parameter check: asked before each file is looked at; throws to end it.
    /// - Throws: ``ServiceError`` where the folder cannot be read.
    func scan(_ check: () throws -> Void = {}) throws -> [Entry] { try summaries.scan(check) }

    /// - Throws: ``ServiceError``: UNKNOWN_MODEL with the names that there are, MODEL_UNUSABLE, or what the system refuses.
    func open(_ name: String) throws -> EbbFile {
        try demandKnown(name)
        do { return try store.open(name) } catch { throw ServiceError.of(error) }
    }

    /// - Throws: ``ServiceError`` where no model has that name, or nobody can say.
    @discardableResult
    func demandKnown(_ name: String) throws -> FileIdentity {
        let path: String
        do { path = try store.path(of: name) } catch { throw try unknown(name) }
        do {
            return try FileIdentity(path)
        } catch {
            guard error.isMissing else { throw ServiceError.of(error) }
            throw try unknown(name)
        }
    }

    private func names() throws -> [String] {
        do { return try store.names() } catch { throw ServiceError.of(error) }
    }

    private func unknown(_ name: String) throws -> ServiceError {
        let known = try names()
        let listed = known.prefix(Self.mostNames).joined(separator: ", ")
        let hint =
            known.isEmpty
            ? "none is imported yet"
            : "there are " + listed + (known.count > Self.mostNames ? ", … (\(known.count) in all)" : "")
        return ServiceError(
            .unknownModel, "no model is named \"\(name.prefix(Self.mostCharacters))\": \(hint)")
    }

    /// What turns texts into a model's tokens, without the model.
    /// - Throws: ``ServiceError``.
    func text(_ name: String) throws -> ModelText {
        let identity = try demandKnown(name)
        let found = texts.withLock { texts -> ModelText? in
            guard let index = texts.firstIndex(where: { $0.name == name && $0.identity == identity }) else {
                return nil
            }
            let found = texts.remove(at: index)
            texts.append(found)
            return found.text
        }
        if let found { return found }
        let text: ModelText
        do { text = try ModelText(try open(name).metadata) } catch { throw ServiceError.unusable(error) }
        texts.withLock { texts in
            texts.removeAll { $0.name == name }
            texts.append((name, identity, text))
            if texts.count > Self.mostTexts { texts.removeFirst() }
        }
        return text
    }
}

extension Error {
    /// Whether the system says that there is no such file.
    fileprivate var isMissing: Bool {
        guard let code = (self as? FormatError)?.systemCode else { return false }
        return code == 2 || code == 20  // ENOENT, ENOTDIR
    }
}

extension ServiceError {
    /// What went wrong in making a model out of a file: the file's fault, unless the system had nothing to give.
    static func unusable(_ error: any Error) -> ServiceError {
        let known = ServiceError.of(error)
        if error is ServiceError || known.retryAfter != nil { return known }
        return ServiceError(.modelUnusable, known.description)
    }
}
