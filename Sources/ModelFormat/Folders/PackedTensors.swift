/// Integers of a few bits in words of 32, the first in the lowest: a matrix of words.
struct PackedWords: Sendable {
    let file: SafetensorsFile
    let tensor: SafetensorsFile.Tensor
    var rows: Int { tensor.shape[0] }
    var columns: Int { tensor.shape[1] }

    /// - Throws: ``FormatError`` where the tensor is missing, or no matrix of words.
    init(_ tensors: CheckpointTensors, _ name: String) throws {
        let stored = try tensors.use(name)
        (file, tensor) = try tensors.weights.stored(stored)
        guard tensor.type == .i32, tensor.shape.count == 2 else {
            throw FormatError(
                "\(file.file.path): \(stored) is \(tensor.typeName.prefix(20)) of the shape \(tensor.shape), not a matrix "
                    + "of I32")
        }
    }

    subscript(row: Int, column: Int) -> UInt32 {
        file.data(tensor).loadUnaligned(fromByteOffset: (row * columns + column) * 4, as: UInt32.self)
    }
}

/// What a packed weight's integers are multiplied with: [groups, n], or [n, groups] where a channel's lie together.
struct PackedScales: Sendable {
    let file: SafetensorsFile
    let tensor: SafetensorsFile.Tensor
    private let isByChannel: Bool

    /// - Throws: ``FormatError`` where the tensor is missing, or no matrix of floats.
    init(_ tensors: CheckpointTensors, _ name: String, isByChannel: Bool) throws {
        let stored = try tensors.use(name)
        (file, tensor) = try tensors.weights.stored(stored)
        self.isByChannel = isByChannel
        guard tensor.type.isFloat, tensor.shape.count == 2 else {
            throw FormatError("\(file.file.path): \(stored) is no matrix of floats")
        }
    }

    var isHalf: Bool { tensor.type == .f16 }
    var groups: Int { tensor.shape[isByChannel ? 1 : 0] }
    var channels: Int { tensor.shape[isByChannel ? 0 : 1] }

    subscript(group: Int, channel: Int) -> Float {
        var value: Float = 0
        let place = isByChannel ? channel * groups + group : group * channels + channel
        file.read(tensor, from: place, count: 1, into: &value)
        return value
    }
}

/// The integers that stand for 0, one for each group of input channels and each output channel.
struct PackedZeros: Sendable {
    private enum Stored: Sendable {
        /// Words along the output channels, [groups, n / inWord].
        case words(PackedWords)
        /// Words along the output channels, [n / inWord, groups].
        case columns(PackedWords)
        /// Signed bytes [n, groups], less the middle of all integers.
        case bytes(SafetensorsFile, SafetensorsFile.Tensor)
        /// The middle of all integers.
        case none
    }

    private let stored: Stored
    private let format: PackedFormat
    /// The tensor's shape; nil where there is none.
    let shape: [Int]?

    /// - Throws: ``FormatError`` where the tensor is missing, or of another kind.
    init(_ module: String, _ format: PackedFormat, _ tensors: CheckpointTensors) throws {
        self.format = format
        let name = module + format.names.zeros
        switch format.layout {
        case .gptq, .awq:
            let words = try PackedWords(tensors, name)
            (stored, shape) = (.words(words), words.tensor.shape)
        case .compressed(true): (stored, shape) = (.none, nil)
        case .compressed(false):
            // compressed-tensors packs them since 0.10, and stored bytes before.
            if let spelled = tensors.spelled(name), try tensors.weights.stored(spelled).tensor.type == .i8 {
                let (file, tensor) = try tensors.weights.stored(try tensors.use(name))
                (stored, shape) = (.bytes(file, tensor), tensor.shape)
            } else {
                let words = try PackedWords(tensors, name)
                (stored, shape) = (.columns(words), words.tensor.shape)
            }
        }
    }

    /// The shape for `n` channels of `groups`; nil where there is no tensor.
    func expected(n: Int, groups: Int) -> [Int]? {
        let words = (n + format.inWord - 1) / format.inWord
        return switch stored {
        case .words: [groups, words]
        case .columns: [words, groups]
        case .bytes: [n, groups]
        case .none: nil
        }
    }

    subscript(group: Int, channel: Int) -> Int {
        let middle = 1 << (format.bits - 1)
        switch stored {
        case .none: return middle
        case .bytes(let file, let tensor):
            let byte = file.data(tensor)[channel * tensor.shape[1] + group]
            return Int(Int8(bitPattern: byte)) + middle
        case .words(let words):
            let (word, place) = channel.quotientAndRemainder(dividingBy: format.inWord)
            return Int(format.integer(words[group, word], at: place)) + format.zeroBias
        case .columns(let words):
            let (word, place) = channel.quotientAndRemainder(dividingBy: format.inWord)
            return Int(format.integer(words[word, group], at: place))
        }
    }
}
