import CKernels
import ModelFormat

/// Hands a family its weights, each checked against the shape that the family expects.
final class WeightLoader {
    let metadata: Metadata
    let path: String
    private let shapes: [String: TensorShape]
    private let file: EbbFile?
    /// What is only checked, with what its format says besides shapes.
    private let checked: (any ModelDescription)?
    /// What the family has asked for.
    private var used: Set<String> = []
    /// By the matrix' name: the parts of a fused one have the same.
    private var readOrders: [String: [InputOrder]] = [:]
    /// Every matrix and the layer it belongs to. The layer after the last is the output head.
    let weights = WeightSet()

    /// For a file that is to be run.
    init(_ file: EbbFile) {
        (self.file, checked) = (file, nil)
        metadata = file.metadata
        path = file.path
        shapes = Dictionary(file.shapes.map { ($0.name, $0) }) { first, _ in first }
    }

    /// For a file that is only checked: the weights point nowhere and must not be used.
    init(checking description: some ModelDescription) {
        (file, checked) = (nil, description)
        metadata = description.metadata
        path = description.path
        shapes = Dictionary(description.shapes.map { ($0.name, $0) }) { first, _ in first }
    }

    /// Whether vectors have values.
    var isForRunning: Bool { file != nil }

    /// Builds a family, and demands that it knows all of the file's settings and uses all of its tensors.
    func covered<Family>(_ architecture: String, _ keys: KnownKeys, _ build: () throws -> Family) throws -> Family {
        guard !AdapterSource.isAdapter(metadata) else {
            throw FormatError(
                "\(path) is an adapter (general.type), which needs its model: ebbctl adapter import, then run --adapter"
            )
        }
        let coverage = Coverage(path: path, metadata: metadata, architecture: architecture)
        try coverage.check(keys)
        let family = try build()
        try coverage.check(tensors: shapes.keys, used: used)
        return family
    }

    private func shape(_ name: String) throws -> TensorShape {
        used.insert(name)
        guard let shape = shapes[name] else { throw FormatError("\(path): the tensor \(name) is missing") }
        return shape
    }

    func has(_ name: String) -> Bool { shapes[name] != nil }

    /// The length of a vector or the output channels of a matrix, or nil where there is none of that name.
    func outputs(_ name: String) -> Int? { shapes[name]?.n }

    /// The matrix [n, k] of that name, as a part of `layer`.
    /// - Parameter isTable: its rows are looked up, so that its columns cannot have an order of their own; as those of no
    ///   layer, -1, are.
    func matrix(_ name: String, n: Int, k: Int, layer: Int, isTable: Bool = false) throws -> LinearRef {
        let shape = try shape(name)
        guard case .matrix = shape.layout, shape.n == n, shape.k == k else {
            throw FormatError("\(path): \(name) is [\(shape.n), \(shape.k)], but the metadata demands [\(n), \(k)]")
        }
        let scale = try optionalVector("\(name).input_scale", n: 1)
        let smoothing = scale == nil ? nil : try optionalVector("\(name).input_smoothing", n: k)
        let order = isTable || layer < 0 ? nil : try inputOrders(name, count: 1, k: k).first
        guard order == nil || scale == nil else {
            throw FormatError("\(path): \(name) has both a fixed input scale and an order of its input")
        }
        guard let file else { return weights.add(Linear(ebb_matrix()), layer: layer) }
        guard let matrix = file.matrix(name) else { throw FormatError("\(path): the tensor \(name) is missing") }
        let fixed = try scale.map { try fixedInput(name, matrix, scale: $0[0], smoothing) }
        return weights.add(Linear(matrix, fixedInput: fixed, order: order), layer: layer, name: name)
    }

    /// Output channels first..<first + n of a matrix of `total` channels that holds several weights.
    /// - Throws: ``FormatError``, also where the channels do not begin at a tile.
    /// - Parameters:
    ///   - expert: of the layer, whose weight it is.
    ///   - orders: that of its columns, or none, where it is not that of the whole matrix.
    func part(
        _ name: String, of total: Int, first: Int, n: Int, k: Int, layer: Int, expert: Int? = nil,
        orders: [InputOrder]? = nil
    ) throws -> LinearRef {
        let shape = try shape(name)
        guard case .matrix(let encoding) = shape.layout, shape.n == total, shape.k == k else {
            throw FormatError("\(path): \(name) is [\(shape.n), \(shape.k)], but the metadata demands [\(total), \(k)]")
        }
        let tile = Int(EBB_TILE)
        guard first % tile == 0, first + n == total || n % tile == 0 else {
            throw FormatError("\(path): \(name) holds weights of \(n) channels, which is no multiple of \(tile)")
        }
        let order = try (orders ?? inputOrders(name, count: 1, k: k)).first
        guard let file else { return weights.add(Linear(ebb_matrix()), layer: layer, expert: expert) }
        guard var matrix = file.matrix(name), let data = matrix.data,
            let tileBytes = encoding.byteCount(n: tile, k: k)
        else { throw FormatError("\(path): the tensor \(name) is missing") }
        matrix.data = data + first / tile * tileBytes
        matrix.n = UInt32(n)
        return weights.add(
            Linear(matrix, order: order), layer: layer, expert: expert, name: name, firstChannel: first)
    }

    /// A matrix of stacked weights, one for each expert.
    func stacked(_ name: String, experts: Int, n: Int, k: Int, layer: Int) throws -> [LinearRef] {
        // Rows and columns alone would fit experts that lie in another way.
        if let found = checked?.dimensions(of: name), found != [experts, n, k] {
            throw FormatError(
                "\(path): \(name) has the dimensions \(found), but the metadata demands \([experts, n, k]): experts, rows, "
                    + "columns")
        }
        let orders = try inputOrders(name, count: experts, k: k)
        return try (0..<experts).map {
            try part(
                name, of: experts * n, first: $0 * n, n: n, k: k, layer: layer, expert: $0,
                orders: orders.isEmpty ? [] : [orders[$0]])
        }
    }

    /// The orders of a matrix' columns, `NAME.input_order` [count * k], one for each of the weights that it holds; none
    /// where they read the input as it is, and of a file that is only checked.
    private func inputOrders(_ matrix: String, count: Int, k: Int) throws -> [InputOrder] {
        if let known = readOrders[matrix], known.count == count { return known }
        let name = matrix + InputOrderTensor.suffix
        guard let values = try optionalVector(name, n: count * k), isForRunning else { return [] }
        let orders = try (0..<count).map { index in
            let values = UnsafeBufferPointer(start: values + index * k, count: k)
            guard let places = InputOrderTensor.places(values) else {
                throw FormatError(
                    "\(path): \(name) is no order of \(k) inputs; the file is damaged, import the model again")
            }
            return weights.order(places)
        }
        readOrders[matrix] = orders
        return orders
    }

    /// A weight's calibrated input, `NAME.input_scale` [1] and `NAME.input_smoothing` [k].
    private func fixedInput(
        _ name: String, _ matrix: ebb_matrix, scale: Float, _ smoothing: VectorRef?
    ) throws -> FixedInput {
        guard matrix.bits == 8, matrix.asymmetric == 0, matrix.records == 1, matrix.block == matrix.span,
            matrix.scale_kind == EBB_SCALE_F16.rawValue
        else { throw FormatError("\(path): \(name) has a fixed input scale, but is not 8 bit, symmetric, per channel") }
        guard scale.isFinite, scale > 0 else { throw FormatError("\(path): \(name).input_scale is \(scale)") }
        if let smoothing { try demandScales(smoothing, count: Int(matrix.k), "\(name).input_smoothing") }
        return FixedInput(
            scale: scale, multipliers: weights.multipliers(scale, smoothing, count: Int(matrix.k)),
            smoothing: smoothing)
    }

    /// Checks scales and factors: finite and positive.
    func demandScales(_ scales: VectorRef, count: Int, _ name: String) throws {
        let values = isForRunning ? (0..<count).map { scales[$0] } : checked?.vector(name) ?? []
        guard values.allSatisfy({ $0.isFinite && $0 > 0 }) else {
            throw FormatError("\(path): \(name) holds impossible scales: 0, negative ones, or NaN")
        }
    }

    /// Checks that weights which read the same input agree on how it is quantized.
    func shareInput(_ refs: LinearRef...) throws {
        let quantized = refs.map(\.pointee).filter(\.isQuantized)
        guard let first = quantized.first else { return }
        for other in quantized.dropFirst() {
            let same: Bool
            switch (first.fixedInput, other.fixedInput) {
            case (nil, nil): same = true
            case (let a?, let b?):
                same = (0..<Int(first.mapped.k)).allSatisfy { a.multipliers[$0] == b.multipliers[$0] }
            default: same = false
            }
            guard same else {
                throw FormatError("\(path): weights that read the same input have different input scales")
            }
        }
    }

    /// The vector of n values of that name.
    func vector(_ name: String, n: Int) throws -> VectorRef {
        let shape = try shape(name)
        guard shape.layout == .vector, shape.n == n else {
            throw FormatError("\(path): \(name) has \(shape.n) values, but the metadata demands \(n)")
        }
        guard let file, let tensor = file.tensors[name], let base = file.data(tensor).baseAddress else {
            return WeightSet.nothing
        }
        let values = UnsafeBufferPointer(start: base.assumingMemoryBound(to: Float.self), count: n)
        // A row that they scale becomes int8 next, where NaN would be some number. They are few, and read in every step.
        guard values.allSatisfy(\.isFinite), let start = values.baseAddress else {
            throw FormatError("\(path): \(name) holds NaN or infinity; the file is damaged, import the model again")
        }
        return start
    }

    func optionalVector(_ name: String, n: Int) throws -> VectorRef? { has(name) ? try vector(name, n: n) : nil }

    /// A number that must be positive and finite where the file has it, and is not 0, which stands for none.
    func positive(_ key: String) throws -> Float? {
        guard metadata[key] != nil, metadata.float(key) != 0 else { return nil }
        guard let value = metadata.float(key), value > 0, value.isFinite else {
            throw FormatError("\(path): \(key) is impossible")
        }
        return value
    }

    /// Windows [layers] where all layers see `PREFIX.attention.sliding_window` tokens, or all see all.
    func uniformWindows(_ prefix: String, _ config: DecoderConfig) throws -> [Int] {
        let key = "\(prefix).attention.sliding_window"
        let window = metadata.integer(key) ?? 0
        guard window >= 0 else { throw FormatError("\(path): \(key) is \(window)") }
        return Array(repeating: window < config.contextLength ? window : 0, count: config.layers)
    }

    /// Windows [layers] where layers alternate: all but each `pattern`th see `PREFIX.attention.sliding_window` tokens, or
    /// those that `….sliding_window_pattern` lists or counts.
    func alternatingWindows(_ prefix: String, _ config: DecoderConfig, pattern usual: Int) throws -> [Int] {
        let window = try metadata.requiredCount(
            "\(prefix).attention.sliding_window", limit: config.contextLength)
        let key = "\(prefix).attention.sliding_window_pattern"
        if let list = metadata.array(key) {
            guard let flags = list.integers(), flags.count == config.layers else {
                throw FormatError("\(path): \(key) is no list of a flag for each of \(config.layers) layers")
            }
            return flags.map { $0 != 0 ? window : 0 }
        }
        let pattern = metadata[key] == nil ? usual : try metadata.requiredCount(key, limit: 1024)
        return (0..<config.layers).map { $0 % pattern != pattern - 1 ? window : 0 }
    }

    /// Experts of all layers at most; the largest models have some 16,000.
    private static let mostExperts = 1 << 16

    /// The hyperparameters of a model all of whose layers are mixtures of experts.
    func mixture(_ prefix: String) throws -> DecoderConfig {
        // What the file says of other layers sizes nothing: there are none.
        var config = try config(prefix, feedForward: ["expert_feed_forward_length", "feed_forward_length"])
        let count = try metadata.requiredCount("\(prefix).expert_count", limit: Self.mostExperts / config.layers)
        let used = try metadata.requiredCount("\(prefix).expert_used_count", limit: 1024)
        guard used <= count else { throw FormatError("\(path): \(used) of \(count) experts cannot be used") }
        config.experts = ExpertConfig(count: count, used: used)
        return config
    }

    /// The hyperparameters that llama's relatives share, from `PREFIX.*` keys.
    /// - Parameter feedForward: the keys of a feed-forward part's length; the first that is there counts.
    func config(_ prefix: String, feedForward: [String] = ["feed_forward_length"]) throws -> DecoderConfig {
        let layers = try metadata.requiredCount("\(prefix).block_count", limit: 1024)
        let hidden = try metadata.requiredCount("\(prefix).embedding_length", limit: 1 << 17)
        let heads = try metadata.requiredCount("\(prefix).attention.head_count", limit: 1024)
        let kvKey = "\(prefix).attention.head_count_kv"
        let kvHeads = metadata[kvKey] == nil ? heads : try metadata.requiredCount(kvKey, limit: 1024)
        let lengthKey = "\(prefix).attention.key_length"
        let limit = Int(EBB_MAX_HEAD_DIM)
        if metadata[lengthKey] == nil, hidden % heads != 0 {
            throw FormatError("\(path): embedding length \(hidden) is not a multiple of \(heads) heads")
        }
        let headDim = metadata[lengthKey] == nil ? hidden / heads : try metadata.requiredCount(lengthKey, limit: limit)
        guard heads % kvHeads == 0 else {
            throw FormatError("\(path): \(heads) heads are not a multiple of \(kvHeads) KV heads")
        }
        guard headDim % 16 == 0, headDim <= limit else {
            throw FormatError(
                "\(path): a head dimension of \(headDim) is not supported (multiples of 16 up to \(limit) are)")
        }
        if let values = metadata.integer("\(prefix).attention.value_length"), values != headDim {
            throw FormatError("\(path): values of \(values) beside keys of \(headDim) are not supported")
        }
        let rotated = metadata.integer("\(prefix).rope.dimension_count") ?? headDim
        guard rotated > 0, rotated <= headDim, rotated % 2 == 0 else {
            throw FormatError("\(path): \(rotated) of \(headDim) dimensions of a head cannot be rotated")
        }
        guard let epsilon = metadata.float("\(prefix).attention.layer_norm_rms_epsilon"), epsilon > 0, epsilon < 1
        else {
            throw FormatError("\(path): \(prefix).attention.layer_norm_rms_epsilon is missing or impossible")
        }
        guard let vocabulary = outputs("token_embd.weight") else {
            throw FormatError("\(path): the tensor token_embd.weight is missing")
        }
        if let tokens = Vocabulary.count(metadata), tokens != vocabulary {
            throw FormatError(
                "\(path): the vocabulary has \(tokens) tokens, but the embedding has \(vocabulary) rows")
        }
        return DecoderConfig(
            layers: layers, hidden: hidden, heads: heads, kvHeads: kvHeads, headDim: headDim,
            feedForward: try firstCount(feedForward.map { "\(prefix).\($0)" }, limit: 1 << 20), vocabulary: vocabulary,
            contextLength: try metadata.requiredCount("\(prefix).context_length", limit: 1 << 24),
            epsilon: epsilon, rotaries: [try rotary(prefix, dimensions: rotated)],
            windows: Array(repeating: 0, count: layers))
    }

    /// The first of some counts that the file has; the others are checked as well.
    private func firstCount(_ keys: [String], limit: Int) throws -> Int {
        let counts = try keys.filter { metadata[$0] != nil }.map { try metadata.requiredCount($0, limit: limit) }
        return try counts.first ?? metadata.requiredCount(keys.last ?? "", limit: limit)
    }
}
