import CKernels

/// A text, or a pair of texts, as an encoder reads it.
public struct EncoderText: Sendable {
    public let tokens: [Int32]
    /// Where the second text of a pair begins; all of one text's tokens are before it.
    public let second: Int
    /// Whether the text was longer.
    public let isCut: Bool

    public init(_ tokens: [Int32], second: Int? = nil, isCut: Bool = false) {
        (self.tokens, self.second, self.isCut) = (tokens, second ?? tokens.count, isCut)
    }
}

/// A model's layers for whole texts: ``EncoderStep`` for encoders, ``DecoderTextStep`` for decoders that embed.
///
/// Used by one thread at a time.
protocol TextStep: TextRows {
    /// Makes the rows' first hidden states of their tokens.
    func embed()
    /// Runs layer `layer` on the rows.
    func run(_ layer: Int)
    /// What follows the last layer, before pooling.
    func finish()

    /// The mappings of all buffers.
    var regions: [MemoryRegion] { get }
    /// Makes sure that there is memory for `rows` rows.
    func admit(rows: Int) throws
    /// Bytes of ``regions`` once a step of so many rows has been run.
    func bytes(rows: Int) -> Int
    /// Gives the pages of all buffers back.
    func discard()
    /// Where rows went lately, in layers with experts.
    var expertUse: ExpertUse? { get }
}

extension TextStep {
    var expertUse: ExpertUse? { nil }
}

/// The rows of one step: tokens of whole texts, one after another without padding.
class TextRows {
    /// Rows that there are buffers for, unless a text may be longer.
    static let rowLimit = 1024
    /// Tokens of a text at most, whatever a model says: attention takes time with the square of them.
    static let longestText = 8192
    /// Rows of whole texts that go through the layers together: more of them leave the second-level cache.
    static let rowsAtOnce = 512

    struct Slice {
        let firstRow: Int
        let count: Int
    }

    let config: EncoderConfig
    let denses: [EncoderDense]
    let kernels: UnsafePointer<ebb_kernels>
    let pool: WorkerPool
    let products: MatrixProducts
    /// The residual stream, [rows][hidden].
    let hidden: UnsafeMutablePointer<Float>
    /// Embeddings on their way through dense layers, [texts][width] twice, and a row of zeros; nil where there are none.
    let embeddings: AnonymousMemory?
    let embeddingWidth: Int
    private(set) var rows = 0
    private(set) var slices: [Slice] = []
    private(set) var texts: ArraySlice<EncoderText> = []

    init(
        _ family: any TextFamily, _ products: MatrixProducts, hidden: UnsafeMutablePointer<Float>, kernels: Kernels,
        pool: WorkerPool
    ) throws {
        (config, denses, self.products, self.hidden) = (family.config, family.denses, products, hidden)
        (self.kernels, self.pool) = (kernels.table, pool)
        embeddingWidth = config.denses.reduce(config.hidden) { max($0, $1.outputs) }
        embeddings =
            config.denses.isEmpty ? nil : try AnonymousMemory(byteCount: (2 * Self.rowsAtOnce + 1) * embeddingWidth * 4)
    }

    /// Rows that a step takes at most: a text's longest.
    static func capacity(_ config: EncoderConfig) -> Int { max(rowLimit, config.contextLength) }

    /// Takes texts' tokens, which ``TextStep/embed()`` reads.
    func begin(_ batch: ArraySlice<EncoderText>) {
        texts = batch
        slices.removeAll(keepingCapacity: true)
        rows = 0
        for text in batch {
            slices.append(Slice(firstRow: rows, count: text.tokens.count))
            rows += text.tokens.count
        }
    }

    /// Whether all rows are numbers.
    func isSound() -> Bool { DecoderStep.isSound(UnsafeBufferPointer(start: hidden, count: rows * config.hidden)) }
}
