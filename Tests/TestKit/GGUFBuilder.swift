/// Writes GGUF files, right or wrong, for tests.
public struct GGUFBuilder {
    public enum Value: Sendable {
        case uint32(UInt32), int32(Int32), float32(Float), bool(Bool), string(String)
        case strings([String]), int32s([Int32]), float32s([Float])
    }

    public struct Tensor {
        public var name: String
        /// ggml's type number.
        public var type: UInt32
        /// ggml's order: the fastest dimension first.
        public var dimensions: [UInt64]
        public var data: [UInt8]
        /// Overrides the true offset.
        public var offset: UInt64?

        public init(_ name: String, type: UInt32, dimensions: [UInt64], data: [UInt8], offset: UInt64? = nil) {
            (self.name, self.type, self.dimensions, self.data, self.offset) = (name, type, dimensions, data, offset)
        }

        /// The same values in 8 bits where ggml's Q8_0 holds them exactly: matrices whose values are whole multiples of
        /// `unit`, -127...127 times. What has no rows of blocks of 32 stays as it is.
        public func q8(unit: Float) -> Tensor {
            guard type == 0, dimensions.count > 1, dimensions[0] % 32 == 0 else { return self }
            let scale = Float16(unit).bitPattern
            var packed: [UInt8] = []
            for (index, value) in floats.enumerated() {
                if index % 32 == 0 { packed += bytes(scale) }
                packed.append(UInt8(bitPattern: Int8(value / unit)))
            }
            return Tensor(name, type: 8, dimensions: dimensions, data: packed)
        }

        /// The values of an f32 tensor.
        public var floats: [Float] {
            stride(from: 0, to: data.count, by: 4).map { at in
                Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(data[at + $1]) << UInt32($1 * 8) })
            }
        }

        public static func f32(_ name: String, _ dimensions: [UInt64], _ values: [Float]) -> Tensor {
            Tensor(name, type: 0, dimensions: dimensions, data: values.flatMap { bytes($0.bitPattern) })
        }
    }

    public var version: UInt32 = 3

    /// Sets a pair, in the place of one of that key.
    public mutating func set(_ key: String, _ value: Value) {
        pairs.removeAll { $0.0 == key }
        pairs.append((key, value))
    }

    /// The values of an f32 tensor.
    public subscript(name: String) -> [Float] {
        get { tensors.first { $0.name == name }?.floats ?? [] }
        set {
            guard let index = tensors.firstIndex(where: { $0.name == name }) else { return }
            tensors[index].data = newValue.flatMap { bytes($0.bitPattern) }
        }
    }

    public var pairs: [(String, Value)]
    public var tensors: [Tensor]

    public init(_ pairs: [(String, Value)], _ tensors: [Tensor] = []) { (self.pairs, self.tensors) = (pairs, tensors) }

    public func build() -> [UInt8] {
        var out =
            bytes(UInt32(0x4655_4747)) + bytes(version) + bytes(UInt64(tensors.count)) + bytes(UInt64(pairs.count))
        for (key, value) in pairs { out += text(key) + encoded(value) }
        var offset: UInt64 = 0
        for tensor in tensors {
            out += text(tensor.name) + bytes(UInt32(tensor.dimensions.count))
            for size in tensor.dimensions { out += bytes(size) }
            out += bytes(tensor.type) + bytes(tensor.offset ?? offset)
            offset += UInt64((tensor.data.count + 31) / 32 * 32)
        }
        out += padding(out.count)
        for tensor in tensors { out += tensor.data + padding(tensor.data.count) }
        return out
    }

    private func padding(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: (32 - count % 32) % 32) }

    private func text(_ string: String) -> [UInt8] { bytes(UInt64(string.utf8.count)) + string.utf8 }

    private func encoded(_ value: Value) -> [UInt8] {
        switch value {
        case .uint32(let v): bytes(UInt32(4)) + bytes(v)
        case .int32(let v): bytes(UInt32(5)) + bytes(v)
        case .float32(let v): bytes(UInt32(6)) + bytes(v.bitPattern)
        case .bool(let v): bytes(UInt32(7)) + [v ? 1 : 0]
        case .string(let v): bytes(UInt32(8)) + text(v)
        case .strings(let v): array(8, v.count) + v.flatMap(text)
        case .int32s(let v): array(5, v.count) + v.flatMap { bytes($0) }
        case .float32s(let v): array(6, v.count) + v.flatMap { bytes($0.bitPattern) }
        }
    }

    private func array(_ type: UInt32, _ count: Int) -> [UInt8] {
        bytes(UInt32(9)) + bytes(type) + bytes(UInt64(count))
    }
}

private func bytes(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
