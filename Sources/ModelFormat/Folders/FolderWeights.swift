import Glibc

/// The weights of a folder: model.safetensors, or the shards that model.safetensors.index.json lists.
struct FolderWeights: Sendable {
    /// What errors call the weights as a whole.
    let path: String
    let files: [SafetensorsFile]
    private let places: [String: Int]

    private static let whole = "model.safetensors"
    private static let index = "model.safetensors.index.json"

    /// - Throws: ``FormatError``, which says what to do where the weights come in another format.
    init(folder: String) throws {
        func has(_ name: String) -> Bool { access(folder + "/" + name, F_OK) == 0 }
        if has(Self.whole) || !has(Self.index) {
            let path = folder + "/" + Self.whole
            if !has(Self.whole), has("pytorch_model.bin") {
                throw FormatError("\(path) is missing: pytorch_model.bin is not read; save the model as safetensors")
            }
            let file = try SafetensorsFile(path: path)
            self.init(path, [file], Dictionary(uniqueKeysWithValues: file.tensors.keys.map { ($0, 0) }))
        } else {
            try self.init(shards: FolderFile(folder, Self.index), folder: folder)
        }
    }

    private init(_ path: String, _ files: [SafetensorsFile], _ places: [String: Int]) {
        (self.path, self.files, self.places) = (path, files, places)
    }

    /// The index and the shards have to agree on every tensor.
    private init(shards index: FolderFile, folder: String) throws {
        guard let map = try index.members()["weight_map"]?.object else {
            throw FormatError("\(index.path): weight_map, which says where each tensor lies, is missing or no object")
        }
        var (files, numbers): ([SafetensorsFile], [String: Int]) = ([], [:])
        var places: [String: Int] = [:]
        for (tensor, node) in map {
            guard let name = node.string else { throw FormatError("\(index.path): \(tensor) has no file's name") }
            if numbers[name] == nil {
                numbers[name] = files.count
                files.append(try Self.shard(name, folder: folder, index: index.path))
            }
            guard let number = numbers[name] else { continue }
            guard files[number].tensors[tensor] != nil else {
                throw FormatError("\(index.path): \(tensor) should lie in \(name), which does not hold it")
            }
            places[tensor] = number
        }
        for (number, file) in files.enumerated() {
            if let other = file.tensors.keys.filter({ places[$0] != number }).min() {
                throw FormatError(
                    "\(file.file.path) holds \(other), which \(Self.index) does not say: they are not of one model")
            }
        }
        self.init(index.path, files, places)
    }

    private static func shard(_ name: String, folder: String, index: String) throws -> SafetensorsFile {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard !name.isEmpty, !name.hasPrefix("/"), !parts.contains(".."), !name.utf8.contains(0) else {
            throw FormatError("\(index): the file \"\(name.prefix(200))\" leaves the folder")
        }
        let path = folder + "/" + name
        guard access(path, F_OK) == 0 || errno != ENOENT else {
            throw FormatError("\(path) is missing, one of the files that \(Self.index) lists: load it too")
        }
        return try SafetensorsFile(path: path)
    }

    var byteCount: Int { files.reduce(0) { $0 + $1.file.bytes.count } }

    var names: Dictionary<String, Int>.Keys { places.keys }

    func has(_ name: String) -> Bool { places[name] != nil }

    /// A tensor as it is stored, and the file that it lies in.
    /// - Throws: ``FormatError`` where there is none of that name, or its shape is impossible.
    func stored(_ name: String) throws -> (file: SafetensorsFile, tensor: SafetensorsFile.Tensor) {
        guard let place = places[name], let tensor = files[place].tensors[name] else {
            throw FormatError("\(path): the tensor \(name) is missing")
        }
        guard tensor.shape.count <= 4, tensor.shape.allSatisfy({ $0 > 0 && $0 <= Int(Int32.max) }) else {
            throw FormatError("\(files[place].file.path): \(name) has the shape \(tensor.shape)")
        }
        return (files[place], tensor)
    }
}
