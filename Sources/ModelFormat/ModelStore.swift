import Glibc

/// The folder of imported models: `NAME.ebb` each. Their adapters lie in a folder inside.
public struct ModelStore: Sendable {
    public let folder: String
    private let isOfAdapters: Bool

    public init(folder: String) { (self.folder, isOfAdapters) = (folder, false) }

    private init(adaptersIn folder: String) { (self.folder, isOfAdapters) = (folder + "/adapters", true) }

    /// The adapters of these models.
    public var adapters: ModelStore { ModelStore(adaptersIn: folder) }

    private var kind: String { isOfAdapters ? "adapter" : "model" }

    /// `$EBB_MODELS`; else `/var/lib/ebb/models` for root and `$XDG_DATA_HOME/ebb/models` (`~/.local/share`) for others.
    public static var defaultFolder: String {
        func variable(_ name: String) -> String? {
            guard let value = getenv(name) else { return nil }
            let text = String(cString: value)
            return text.isEmpty ? nil : text
        }
        if let folder = variable("EBB_MODELS") { return folder }
        if geteuid() == 0 { return "/var/lib/ebb/models" }
        let data = variable("XDG_DATA_HOME") ?? (variable("HOME") ?? "") + "/.local/share"
        return data + "/ebb/models"
    }

    /// Where a model of that name lies, whether or not it exists.
    /// - Throws: ``FormatError`` for a name that could leave the folder.
    public func path(of name: String) throws -> String {
        let allowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                true
            default: false
            }
        }
        guard allowed, !name.isEmpty, name.utf8.count <= 128, !name.hasPrefix(".") else {
            throw FormatError(
                "\"\(name)\" is no \(kind) name: letters, digits, '-', '_' and '.' make one (at most 128)")
        }
        return "\(folder)/\(name).ebb"
    }

    /// Names of the models in the folder, sorted: of regular files, and links to such.
    /// - Throws: ``FormatError`` where the folder cannot be read, with the reason.
    public func names() throws -> [String] {
        var info = stat()
        guard stat(folder, &info) == 0 || errno != ENOENT else {
            // The first import makes it.
            if isOfAdapters { return [] }
            throw FormatError("there is no folder \(folder) for models: ebbctl import makes it, --models names another")
        }
        return try FolderEntries.names(of: folder).filter { name in
            var info = stat()
            return name.hasSuffix(".ebb") && !name.hasPrefix(".") && stat("\(folder)/\(name)", &info) == 0
                && info.st_mode & S_IFMT == S_IFREG
        }.map { String($0.dropLast(4)) }.sorted()
    }

    /// Opens a model by name.
    /// - Throws: ``FormatError``; an unknown name lists what there is.
    public func open(_ name: String) throws -> EbbFile {
        let path = try path(of: name)
        guard access(path, F_OK) == 0 || errno != ENOENT else {
            let known = try names()
            let hint =
                known.isEmpty
                ? "it is empty: ebbctl \(isOfAdapters ? "adapter " : "")import FILE.gguf --name \(name)"
                : "it has " + known.joined(separator: ", ")
            throw FormatError("no \(kind) named \(name) in \(folder) (\(hint))")
        }
        return try EbbFile(path: path)
    }

    /// Removes what imports that were killed have left.
    /// - Returns: how many files that were.
    @discardableResult
    public func removeLeftovers() -> Int {
        // Before there were locks, an import was checked under a name of its own.
        Leftovers.remove(in: folder) { $0.contains(".ebb" + EbbWriter.mark) || $0.hasSuffix(".ebb.unchecked") }
    }

    /// Makes the folder (and its parents) where it is missing.
    public func create() throws {
        var path = folder.hasPrefix("/") ? "" : "."
        for part in folder.split(separator: "/") {
            path += "/" + part
            guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw FormatError.system("cannot create \(path)") }
        }
    }
}
