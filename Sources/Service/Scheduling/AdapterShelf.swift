import Engine

/// The adapters that requests of a model have asked for of late. Used by the engine thread alone.
struct AdapterShelf {
    private struct Entry {
        let name: String
        let identity: FileIdentity
        let adapter: Adapter
    }

    /// One more, and the one that was used longest ago is let go.
    private static let most = 32
    /// The most recently used last.
    private var entries: [Entry] = []

    var names: [String] { entries.map(\.name).sorted() }

    var regions: [MemoryRegion] { entries.map(\.adapter.mappedRegion) }

    /// nil where it is not there, or the file is another by now.
    mutating func find(_ name: String, _ identity: FileIdentity) -> Adapter? {
        guard let index = entries.firstIndex(where: { $0.name == name }) else { return nil }
        let entry = entries.remove(at: index)
        guard entry.identity == identity else { return nil }
        entries.append(entry)
        return entry.adapter
    }

    mutating func keep(_ adapter: Adapter, _ name: String, _ identity: FileIdentity) {
        entries.removeAll { $0.name == name }
        entries.append(Entry(name: name, identity: identity, adapter: adapter))
        if entries.count > Self.most { entries.removeFirst() }
    }
}
