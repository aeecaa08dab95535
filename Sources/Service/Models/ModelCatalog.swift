import Engine
import ModelFormat
import Synchronization
import Text

/// The folder of models, as it is on the disk. What was read of a file is kept until the file is another. Everything here
/// waits for the disk: for the ``TextPool``'s file lane alone.
final class ModelCatalog: Sendable {
    /// A model of the folder.
    struct Entry: Sendable {
        let name: String
        var identity: FileIdentity?
        var summary: ModelSummary?
        /// Why the file cannot be used; empty where it can.
        var problem = ""
    }

    private struct Kept {
        var entries: [String: Entry] = [:]
        /// The most recently used last.
        var texts: [(name: String, identity: FileIdentity, text: ModelText)] = []
    }

    let store: ModelStore
    private let kept = Mutex(Kept())

    /// Models that are not loaded of which is kept what texts need.
    private static let mostTexts = 4
    /// Characters of a foreign text that are passed on.
    static let mostCharacters = 400
    /// Names that an error lists.
    static let mostNames = 32

    init(_ store: ModelStore) { self.store = store }

    /// All models of the folder, by name.
    /// - Parameter check: asked before each file is opened; throws to end it.
    /// - Throws: ``ServiceError`` where the folder cannot be read.
    func scan(_ check: () throws -> Void = {}) throws -> [Entry] {
        let names = try names()
        let known = kept.withLock { $0.entries }
        var found: [String: Entry] = [:]
        for name in names {
            try check()
            found[name] = entry(name, known[name])
        }
        let new = found.filter { $0.value.identity != nil }
        kept.withLock { $0.entries = new }
        return names.compactMap { found[$0] }
    }

    private func entry(_ name: String, _ known: Entry?) -> Entry {
        var entry = Entry(name: name)
        do {
            let path = try store.path(of: name)
            let identity = try FileIdentity(path)
            if let known, known.identity == identity { return known }
            let file = try EbbFile(path: path)
            entry.summary = ModelSummary(file)
            entry.identity = identity
        } catch {
            entry.problem = String("\(error)".prefix(Self.mostCharacters))
            // What the file itself is to blame for stays so until the file is another.
            if let error = error as? FormatError, error.systemCode == nil, let path = try? store.path(of: name) {
                entry.identity = try? FileIdentity(path)
            }
        }
        return entry
    }

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
        let found = kept.withLock { kept -> ModelText? in
            guard let index = kept.texts.firstIndex(where: { $0.name == name && $0.identity == identity }) else {
                return nil
            }
            let found = kept.texts.remove(at: index)
            kept.texts.append(found)
            return found.text
        }
        if let found { return found }
        let text: ModelText
        do { text = try ModelText(try open(name).metadata) } catch { throw ServiceError.unusable(error) }
        kept.withLock { kept in
            kept.texts.removeAll { $0.name == name }
            kept.texts.append((name, identity, text))
            if kept.texts.count > Self.mostTexts { kept.texts.removeFirst() }
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
