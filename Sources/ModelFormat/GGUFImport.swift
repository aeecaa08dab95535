import Quantization

/// Copies a GGUF file into the container, in Ebb's layout and without changing a value.
public struct GGUFImport {
    private let source: GGUFFile

    public init(_ source: GGUFFile) { self.source = source }

    /// Writes `destination`. `progress` hears a fraction, 0...1.
    /// - Throws: ``FormatError``; then no file is left.
    public func write(to destination: String, progress: (Double) -> Void = { _ in }) throws {
        var metadata = MetadataEncoder()
        let raw = UnsafeRawBufferPointer(rebasing: source.file.bytes[source.metadataRange])
        metadata.append(raw: raw, count: source.metadataCount)
        metadata.set("ebb.source.format", "gguf")
        metadata.set("ebb.source.file", String(source.path.split(separator: "/").last ?? ""))
        let writer = try EbbWriter(destination: destination, metadata: metadata, shapes: source.shapes)
        var done = 0
        let total = source.tensors.reduce(0) { $0 + $1.byteCount }
        for tensor in source.tensors {
            try copy(tensor, to: writer) { rows in
                progress(Double(done + rows * (tensor.byteCount / tensor.n)) / Double(max(total, 1)))
            }
            done += tensor.byteCount
        }
        try writer.finish()
        progress(1)
    }

    private func copy(_ tensor: GGUFTensor, to writer: EbbWriter, progress: (Int) -> Void) throws {
        if tensor.dimensions.count == 1 { return try copyVector(tensor, to: writer) }
        switch try GGMLBlocks.encoding(for: tensor.type) {
        case .quantized(let scheme): try copyQuantized(tensor, scheme, to: writer, progress: progress)
        case .f32: try copyFloats(tensor, UInt32.self, to: writer)
        case .f16, .bf16: try copyFloats(tensor, UInt16.self, to: writer)
        }
    }

    private func copyVector(_ tensor: GGUFTensor, to writer: EbbWriter) throws {
        let data = source.data(tensor)
        var values: [Float] = []
        for i in 0..<tensor.k {
            switch tensor.type {
            case .f32: values.append(Float(bitPattern: data.loadUnaligned(fromByteOffset: i * 4, as: UInt32.self)))
            case .f16: values.append(Float(half: data.loadUnaligned(fromByteOffset: i * 2, as: UInt16.self)))
            case .bf16:
                let bits = UInt32(data.loadUnaligned(fromByteOffset: i * 2, as: UInt16.self)) << 16
                values.append(Float(bitPattern: bits))
            default: throw FormatError("\(source.path): the vector \(tensor.name) is quantized, which is not supported")
            }
        }
        try values.withUnsafeBytes { try writer.append($0) }
    }

    private func copyQuantized(
        _ tensor: GGUFTensor, _ scheme: Scheme, to writer: EbbWriter, progress: (Int) -> Void
    ) throws {
        let data = source.data(tensor)
        let rowBytes = tensor.k / tensor.type.blockLength * tensor.type.blockBytes
        let tiles = TileWriter(scheme: scheme, k: tensor.k)
        let code = ChannelCode(scheme: scheme, k: tensor.k)
        let tile = UnsafeMutableRawBufferPointer.allocate(byteCount: tiles.tileBytes, alignment: 64)
        defer { tile.deallocate() }
        for first in stride(from: 0, to: tensor.n, by: 16) {
            tile.initializeMemory(as: UInt8.self, repeating: 0)
            for lane in 0..<min(16, tensor.n - first) {
                let start = (first + lane) * rowBytes
                let row = UnsafeRawBufferPointer(rebasing: data[start..<start + rowBytes])
                GGMLBlocks.read(row, type: tensor.type, into: code)
                tiles.write(code, lane: lane, into: tile)
            }
            try writer.append(UnsafeRawBufferPointer(tile))
            progress(first)
        }
    }

    /// Float rows become tiles [k][16] of the same type.
    private func copyFloats<T: FixedWidthInteger>(_ tensor: GGUFTensor, _: T.Type, to writer: EbbWriter) throws {
        let data = source.data(tensor)
        let size = MemoryLayout<T>.size
        var tile = [T](repeating: 0, count: tensor.k * 16)
        for first in stride(from: 0, to: tensor.n, by: 16) {
            for lane in 0..<16 {
                for i in 0..<tensor.k {
                    let at = ((first + lane) * tensor.k + i) * size
                    tile[i * 16 + lane] =
                        first + lane < tensor.n ? data.loadUnaligned(fromByteOffset: at, as: T.self) : 0
                }
            }
            try tile.withUnsafeBytes { try writer.append($0) }
        }
    }
}
