import ModelFormat
import Synchronization

/// What was read of each file of a folder, kept until the file is another. It waits for the disk: for the ``TextPool``'s file
/// lane alone.
final class FolderReadings<Value: Sendable>: Sendable {
    /// A file of the folder.
    struct Entry: Sendable {
        let name: String
        var identity: FileIdentity?
        var value: Value?
        /// Why the file cannot be used; empty where it can.
        var problem = ""
    }

    private let store: ModelStore
    private let read: @Sendable (EbbFile) throws -> Value
    private let kept = Mutex<[String: Entry]>([:])

    /// - Parameter read: what is wanted of a file; throws for one that cannot be used.
    init(_ store: ModelStore, read: @escaping @Sendable (EbbFile) throws -> Value) {
        (self.store, self.read) = (store, read)
    }

    /// All files of the folder, by name.
    /// - Parameter check: asked before each file is looked at; throws to end it.
    /// - Throws: ``ServiceError`` where the folder cannot be read.
    func scan(_ check: () throws -> Void) throws -> [Entry] {
        let names: [String]
        do { names = try store.names() } catch { throw ServiceError.of(error) }
        let known = kept.withLock { $0 }
        var found: [Entry] = []
        for name in names {
            try check()
            found.append(entry(name, known[name]))
        }
        let new = Dictionary(found.filter { $0.identity != nil }.map { ($0.name, $0) }) { first, _ in first }
        kept.withLock { $0 = new }
        return found
    }

    private func entry(_ name: String, _ known: Entry?) -> Entry {
        var entry = Entry(name: name)
        do {
            let path = try store.path(of: name)
            let identity = try FileIdentity(path)
            if let known, known.identity == identity { return known }
            entry.value = try read(try EbbFile(path: path))
            entry.identity = identity
        } catch {
            entry.problem = String("\(error)".prefix(ModelCatalog.mostCharacters))
            // What the file itself is to blame for stays so until the file is another.
            if let error = error as? FormatError, error.systemCode == nil, let path = try? store.path(of: name) {
                entry.identity = try? FileIdentity(path)
            }
        }
        return entry
    }
}
