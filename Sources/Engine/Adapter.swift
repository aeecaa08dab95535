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
        try AdapterFit.demandFamily(
            file.metadata.string("general.architecture"), model.file.metadata.string("general.architecture"),
            path: file.path)
        var found = [LowRank?](repeating: nil, count: model.weights.linears.count)
        var rank = 0
        for weight in try AdapterFit.weights(file.shapes, of: model.file, path: file.path) {
            rank = max(rank, try Self.load(weight, file, model, weights, &found))
        }
        (self.file, self.model, self.rank) = (file, model, rank)
        table = .allocate(capacity: found.count)
        for (ordinal, pair) in found.enumerated() { (table + ordinal).initialize(to: pair) }
    }

    deinit { table.deallocate() }

    /// The mapping of its matrices.
    public var mappedRegion: MemoryRegion { MemoryRegion(file.bytes) }

    /// Whether it was made for this model, as it is loaded now.
    public func fits(_ model: DecoderModel) -> Bool { self.model === model }

    /// Puts the two matrices of a weight, which fit it, beside each of the parts that it is run as.
    /// - Returns: the rank.
    private static func load(
        _ weight: String, _ file: EbbFile, _ model: DecoderModel, _ own: WeightSet,
        _ table: inout [LowRank?]
    ) throws -> Int {
        let parts = model.weights.parts(of: weight)
        guard !parts.isEmpty, let a = file.matrix(weight + partA), let b = file.matrix(weight + partB) else {
            throw FormatError("\(file.path): \(weight) is no matrix that the model multiplies with")
        }
        let rank = Int(a.n)
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
