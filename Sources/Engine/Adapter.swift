import CKernels
import ModelFormat

/// A LoRA adapter (Hu et al. 2021) of a loaded decoder: for some of its weights W [n, k] two matrices A [rank, k] and B [n, rank],
/// which let a product be (W + strength * B A) x. They stay in their file's mapping; the weights are left as they are.
///
/// @unchecked Sendable: nothing of it changes once it is made, and the engine thread alone computes with it.
public final class Adapter: @unchecked Sendable {
    /// A weight's two matrices; nil where the adapter leaves it alone.
    struct LowRank {
        let a, b: LinearRef
    }

    public let file: EbbFile
    /// The largest of its matrices.
    public let rank: Int
    private weak let model: DecoderModel?
    private let weights = WeightSet()
    /// By ``Linear/ordinal`` of the model's weights.
    let table: UnsafeMutablePointer<LowRank?>

    private static let (partA, partB) = (AdapterSource.suffixA, AdapterSource.suffixB)

    /// The name of the model that a file's adapter was imported for; nil where it holds none.
    public static func base(_ file: EbbFile) -> String? {
        AdapterSource.isAdapter(file.metadata) ? file.metadata.string("adapter.base") : nil
    }

    /// - Throws: ``FormatError`` where it is no adapter, or does not fit the model.
    public init(_ file: EbbFile, for model: DecoderModel) throws {
        guard Self.base(file) != nil else {
            throw FormatError("\(file.path) is no adapter: ebbctl adapter import makes one")
        }
        let (own, its) = (
            file.metadata.string("general.architecture"), model.file.metadata.string("general.architecture")
        )
        guard own == its else {
            throw FormatError("\(file.path): an adapter of \(own ?? "none") does not fit a model of \(its ?? "none")")
        }
        var found = [LowRank?](repeating: nil, count: model.weights.linears.count)
        var (rank, left) = (0, Set(file.names))
        for name in file.names where name.hasSuffix(Self.partA) {
            let weight = String(name.dropLast(Self.partA.count))
            left.subtract([name, weight + Self.partB])
            rank = max(rank, try Self.load(weight, file, model, weights, &found))
        }
        if let other = left.min() {
            throw FormatError("\(file.path): \(other) is no matrix of an adapter, or its other half is missing")
        }
        guard rank > 0 else { throw FormatError("\(file.path) is an adapter of nothing") }
        (self.file, self.model, self.rank) = (file, model, rank)
        table = .allocate(capacity: found.count)
        for (ordinal, pair) in found.enumerated() { (table + ordinal).initialize(to: pair) }
    }

    deinit { table.deallocate() }

    /// The mapping of its matrices.
    public var mappedRegion: MemoryRegion { MemoryRegion(file.bytes) }

    /// Whether it was made for this model, as it is loaded now.
    public func fits(_ model: DecoderModel) -> Bool { self.model === model }

    /// - Returns: the rank.
    private static func load(
        _ weight: String, _ file: EbbFile, _ model: DecoderModel, _ own: WeightSet,
        _ table: inout [LowRank?]
    ) throws -> Int {
        func refusal(_ why: String) -> FormatError { FormatError("\(file.path): \(weight): \(why)") }
        guard let (n, k) = try? model.shape(of: weight) else {
            throw refusal("the model has no matrix of that name; the adapter is one of another model")
        }
        guard let a = file.matrix(weight + partA), let b = file.matrix(weight + partB) else {
            throw refusal("one of the adapter's two matrices is missing")
        }
        let rank = Int(a.n)
        guard (1...AdapterSource.mostRank).contains(rank), Int(b.k) == rank else {
            throw refusal(
                "the ranks of its two matrices are \(rank) and \(b.k); 1 to \(AdapterSource.mostRank) are possible")
        }
        guard Int(a.k) == k, Int(b.n) == n else {
            throw refusal(
                "the adapter is one of [\(b.n), \(a.k)], the model's matrix [\(n), \(k)]; it is one of another model")
        }
        guard ![a, b].contains(where: { $0.encoding == EBB_ENCODING_QUANTIZED.rawValue }) else {
            throw refusal("the adapter's matrices are no floats; import it again")
        }
        let parts = model.weights.parts(of: weight)
        guard !weight.hasSuffix("_exps.weight") else { throw refusal("experts cannot be adapted") }
        // Where it is the output head, too, rows that are looked up in it would go without.
        guard weight != "token_embd.weight" else { throw refusal("embeddings cannot be adapted") }
        let low = own.add(Linear(a), layer: -1)
        for part in parts {
            guard let data = b.data else { continue }
            var rows = b
            // Channels begin at a tile, as those of the weight do.
            rows.data = data + part.firstChannel * rank * (b.encoding == EBB_ENCODING_F32.rawValue ? 4 : 2)
            rows.n = UInt32(part.ref.pointee.outputs)
            table[part.ref.pointee.ordinal] = LowRank(a: low, b: own.add(Linear(rows), layer: -1))
        }
        return rank
    }
}

/// An adapter of a request, and how strong it is to be: 1 as it was trained.
public struct AdapterUse: Sendable, Equatable {
    public let adapter: Adapter
    public let strength: Float

    public init(adapter: Adapter, strength: Float) { (self.adapter, self.strength) = (adapter, strength) }

    public static func == (a: AdapterUse, b: AdapterUse) -> Bool {
        a.adapter === b.adapter && a.strength == b.strength
    }
}
