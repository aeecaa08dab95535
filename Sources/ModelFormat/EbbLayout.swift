import Quantization

/// Fixed numbers of the `.ebb` container; docs/ebb-format.md describes every field.
enum EbbLayout {
    static let magic: [UInt8] = Array("EBBMODEL".utf8)
    /// 2 where a matrix has values from a table, or scales of an exponent alone: what read version 1 cannot read them.
    static let versions: ClosedRange<UInt32> = 1...2
    static func version(of shapes: [TensorShape]) -> UInt32 {
        shapes.contains { shape in
            guard case .matrix(.quantized(let scheme)) = shape.layout else { return false }
            return scheme.values != .linear || scheme.scale == .e8m0
        } ? 2 : 1
    }
    static let headerBytes = 64
    /// Those that its checksum covers.
    static let checksummedHeaderBytes = 48
    /// Matrices start at pages, so that one can be advised away without its neighbours.
    static let matrixAlignment = 4096
    static let vectorAlignment = 64

    static func aligned(_ offset: Int, to alignment: Int) -> Int { (offset + alignment - 1) / alignment * alignment }
}

/// What a tensor is: how it is laid out and how large it is.
public struct TensorShape: Sendable, Hashable {
    public enum Layout: Sendable, Hashable {
        /// `n` f32 values (norm weights, biases).
        case vector
        /// [n output channels, k input channels] in tiles.
        case matrix(Encoding)
    }

    public let name: String
    public let layout: Layout
    /// Output channels, or the vector's length.
    public let n: Int
    /// Input channels; 1 for a vector.
    public let k: Int

    public init(name: String, layout: Layout, n: Int, k: Int) {
        self.name = name
        self.layout = layout
        self.n = n
        self.k = k
    }

    /// Bytes in the container; nil where the shape is impossible.
    public var byteCount: Int? {
        switch layout {
        case .vector: n > 0 && n <= Int(Int32.max) && k == 1 ? n * 4 : nil
        case .matrix(let encoding): encoding.byteCount(n: n, k: k)
        }
    }

    var alignment: Int { layout == .vector ? EbbLayout.vectorAlignment : EbbLayout.matrixAlignment }
}

/// What a model is made of, whatever file it lies in: all that a model family needs to check it.
public protocol ModelDescription {
    var path: String { get }
    var metadata: Metadata { get }
    var shapes: [TensorShape] { get }
    /// A tensor's dimensions, the slowest first; nil where the file says no more than rows and columns.
    func dimensions(of name: String) -> [Int]?
    /// The values of a vector; nil where there is none of that name.
    func vector(_ name: String) -> [Float]?
}

extension ModelDescription {
    public func dimensions(of name: String) -> [Int]? { nil }
}

extension GGUFFile: ModelDescription {
    public func dimensions(of name: String) -> [Int]? {
        tensors.first { $0.name == name }.map { $0.dimensions.reversed() }
    }

    public func vector(_ name: String) -> [Float]? {
        let source = GGUFSource(self)
        guard let tensor = source.tensors.first(where: { $0.name == name && $0.isVector }) else { return nil }
        return try? source.vector(tensor)
    }

    public var shapes: [TensorShape] {
        tensors.map { tensor in
            if tensor.dimensions.count == 1 {
                return TensorShape(name: tensor.name, layout: .vector, n: tensor.k, k: 1)
            }
            let encoding = (try? GGMLBlocks.encoding(for: tensor.type)) ?? .f32
            return TensorShape(name: tensor.name, layout: .matrix(encoding), n: tensor.n, k: tensor.k)
        }
    }
}
