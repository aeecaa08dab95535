import Foundation

/// Writes safetensors files, right or wrong, for tests.
public struct SafetensorsBuilder {
    public struct Tensor {
        public var name, type: String
        public var shape: [Int]
        public var data: [UInt8]
    }

    public var tensors: [Tensor] = []

    public init() {}

    public mutating func add(_ name: String, _ type: String, _ shape: [Int], _ data: [UInt8]) {
        tensors.append(Tensor(name: name, type: type, shape: shape, data: data))
    }

    /// Floats as F32, F16 or BF16, rounded to nearest where they have to be.
    public mutating func add(_ name: String, _ shape: [Int], _ values: [Float], as type: String = "F32") {
        add(name, type, shape, Self.bytes(values, as: type))
    }

    public mutating func add(_ name: String, _ shape: [Int], _ values: [Int32]) {
        add(name, "I32", shape, values.flatMap { value in withUnsafeBytes(of: value.littleEndian) { Array($0) } })
    }

    public static func bytes(_ values: [Float], as type: String) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(values.count * 4)
        func append(_ number: some FixedWidthInteger) {
            withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
        }
        for value in values {
            switch type {
            case "F16": append(Float16(value).bitPattern)
            case "BF16": append(UInt16((value.bitPattern &+ 0x7fff &+ (value.bitPattern >> 16 & 1)) >> 16))
            default: append(value.bitPattern)
            }
        }
        return bytes
    }

    public func build() throws -> [UInt8] {
        var header: [String: Any] = ["__metadata__": ["format": "pt"]]
        var data: [UInt8] = []
        for tensor in tensors {
            header[tensor.name] = [
                "dtype": tensor.type, "shape": tensor.shape,
                "data_offsets": [data.count, data.count + tensor.data.count],
            ]
            data += tensor.data
        }
        let text = try JSONSerialization.data(withJSONObject: header, options: .sortedKeys)
        return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + Array(text) + data
    }
}
