import Glibc

/// The files of a model that llama.cpp's gguf-split has split: NAME-00001-of-00003.gguf and so on. The first one has the
/// metadata; each has some of the tensors, and says which of how many it is (`split.no`, from 0, and `split.count`), and
/// how many tensors there are in all (`split.tensors.count`).
struct GGUFParts {
    let parts: [GGUFFile.Part]

    static let keys: Set<String> = ["split.no", "split.count", "split.tensors.count"]

    /// The numbers of a file's name are 16 bits in its metadata.
    private static let most = 65_535

    /// Opens the other files of a model; nil where it is in one.
    /// - Throws: ``FormatError`` that names the file which is missing, or is not of this model.
    init?(_ named: GGUFFile.Part) throws {
        guard named.metadata["split.count"] != nil else { return nil }
        if let count = named.metadata.integer("split.count"), (0...1).contains(count) {
            try Self.demandWhole(named, count)
            return nil
        }
        let path = named.file.path
        let (number, count) = try Self.place(named)
        let ending = Self.ending(number, of: count)
        guard path.hasSuffix(ending) else {
            throw FormatError(
                "\(path) is part \(number + 1) of \(count) of a model, but its name does not end with \(ending), so that "
                    + "the others are not found: give all parts the names that they were made with")
        }
        let stem = String(path.dropLast(ending.count))
        parts = try (0..<count).map { other in
            if other == number { return named }
            let part = try Self.open(stem + Self.ending(other, of: count), beside: path)
            try Self.demand(part, other, of: count, like: named)
            return part
        }
        try demandTensors(named)
    }

    /// A model in one file says so too: 1, or 0 where gguf-split has merged it. What else it says of its place has to agree,
    /// or it is a part whose count is wrong.
    private static func demandWhole(_ part: GGUFFile.Part, _ count: Int) throws {
        let number = part.metadata.integer("split.no") ?? 0
        let tensors = part.metadata.integer("split.tensors.count") ?? part.tensors.count
        guard number == 0, tensors == part.tensors.count else {
            throw FormatError(
                "\(part.file.path) says that it is a whole model (split.count is \(count)), but also that it is part "
                    + "\(number) (split.no, from 0) of one of \(tensors) tensors, of which it has \(part.tensors.count): get it again"
            )
        }
    }

    /// What a file says of its place.
    private static func place(_ part: GGUFFile.Part) throws -> (number: Int, count: Int) {
        guard let count = part.metadata.integer("split.count"), let number = part.metadata.integer("split.no"),
            (1...most).contains(count), (0..<count).contains(number)
        else {
            throw FormatError(
                "\(part.file.path) is a part of a model, but its split.no and split.count say impossibly which: get it again"
            )
        }
        return (number, count)
    }

    /// As llama.cpp names a part, which is counted from 0.
    private static func ending(_ number: Int, of count: Int) -> String {
        func five(_ number: Int) -> String {
            String(repeating: "0", count: max(0, 5 - "\(number)".count)) + "\(number)"
        }
        return "-\(five(number + 1))-of-\(five(count)).gguf"
    }

    private static func open(_ path: String, beside named: String) throws -> GGUFFile.Part {
        guard access(path, F_OK) == 0 || errno != ENOENT else {
            throw FormatError("\(path) is missing: \(named) is a part of a model, and needs all others beside it")
        }
        return try GGUFFile.Part(path: path)
    }

    /// Demands that a file is the part that its name says, of the same model.
    private static func demand(_ part: GGUFFile.Part, _ number: Int, of count: Int, like named: GGUFFile.Part) throws {
        let path = part.file.path
        guard part.metadata["split.count"] != nil else {
            throw FormatError("\(path) is no part of a model (it has no split.count), but \(named.file.path) is")
        }
        let said = try place(part)
        guard said == (number, count) else {
            throw FormatError(
                "\(path) says that it is part \(said.number + 1) of \(said.count): it is a part of another model, or has "
                    + "another's name")
        }
        let (one, other) = (part.metadata.integer("split.tensors.count"), named.metadata.integer("split.tensors.count"))
        guard one == other else {
            throw FormatError(
                "\(path) is of a model of \(one ?? 0) tensors, but \(named.file.path) of one of \(other ?? 0) "
                    + "(split.tensors.count): they are parts of different models")
        }
    }

    /// Each tensor lies in one of the files, and all of them are there.
    private func demandTensors(_ named: GGUFFile.Part) throws {
        var places: [String: String] = [:]
        for part in parts {
            for tensor in part.tensors {
                if let other = places.updateValue(part.file.path, forKey: tensor.name) {
                    throw FormatError("\(part.file.path) has the tensor \(tensor.name), which \(other) has as well")
                }
            }
        }
        guard let count = named.metadata.integer("split.tensors.count") else {
            throw FormatError("\(named.file.path): split.tensors.count is missing: get the file again")
        }
        guard count == places.count else {
            throw FormatError(
                "\(named.file.path): the parts have \(places.count) tensors together, but should have \(count) "
                    + "(split.tensors.count): one of them is of another model")
        }
    }
}
