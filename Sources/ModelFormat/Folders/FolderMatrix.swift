import Quantization

/// A tensor of a checkpoint as rows of values, however they are stored: a matrix [rows, k], a stack of matrices, whose
/// rows follow each other, or a vector, which is rows of one value.
protocol FolderMatrix: Sendable {
    /// What errors call it.
    var name: String { get }
    var shape: [Int] { get }
    /// The encoding that keeps every value.
    var encoding: Encoding { get }
    /// Which input each column of what ``code(row:into:)`` gives is for; empty where the first is for the first.
    var inputOrder: [Int32] { get }
    func read(row: Int, into out: UnsafeMutablePointer<Float>)
    /// Reads a row as it is quantized, in a scheme that can hold what ``encoding`` can.
    func code(row: Int, into code: ChannelCode)
}

extension FolderMatrix {
    var isVector: Bool { shape.count == 1 }
    var k: Int { isVector ? 1 : shape.last ?? 1 }
    var rows: Int { isVector ? shape.first ?? 1 : shape.dropLast().reduce(1, *) }

    var inputOrder: [Int32] { [] }
    func code(row: Int, into code: ChannelCode) {}
}

/// A tensor of floats.
struct FloatMatrix: FolderMatrix {
    let name: String
    let shape: [Int]
    private let file: SafetensorsFile
    private let tensor: SafetensorsFile.Tensor
    /// Where the last two dimensions are stored the other way round.
    private let isTransposed: Bool

    /// - Throws: ``FormatError`` where the tensor is missing, holds no floats, or has another number of dimensions.
    init(_ weights: FolderWeights, _ name: String, transposed: Bool = false) throws {
        let (file, tensor) = try weights.stored(name)
        guard tensor.type.isFloat else {
            throw FormatError("\(file.file.path): \(name) is \(tensor.typeName.prefix(20)), not F32, F16 or BF16")
        }
        guard tensor.shape.count <= 3, !transposed || tensor.shape.count > 1 else {
            throw FormatError("\(file.file.path): \(name) has the shape \(tensor.shape)")
        }
        (self.name, self.file, self.tensor, isTransposed) = (name, file, tensor, transposed)
        var shape = tensor.shape.isEmpty ? [1] : tensor.shape
        if transposed { shape.swapAt(shape.count - 1, shape.count - 2) }
        self.shape = shape
    }

    var encoding: Encoding { tensor.type == .f16 ? .f16 : tensor.type == .bf16 ? .bf16 : .f32 }

    func read(row: Int, into out: UnsafeMutablePointer<Float>) {
        guard isTransposed else { return file.read(tensor, from: row * k, count: k, into: out) }
        let columns = shape[shape.count - 2]
        let (matrix, column) = row.quotientAndRemainder(dividingBy: columns)
        file.read(tensor, from: matrix * columns * k + column, step: columns, count: k, into: out)
    }
}
