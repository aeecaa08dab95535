/// Key-value pairs in the container's encoding.
public struct MetadataEncoder {
    private(set) var bytes: [UInt8] = []
    private(set) var count: UInt64 = 0

    /// What `quantize` writes about itself, and replaces.
    public static let quantizationKeys: Set<String> = ["ebb.quantization.recipe", "ebb.quantization.summary"]

    public init() {}

    /// Takes over pairs that are already encoded, but for some.
    mutating func append(_ metadata: Metadata, except: Set<String> = []) {
        for key in metadata.keys where !except.contains(key) {
            guard let raw = metadata.raw[key] else { continue }
            bytes.append(contentsOf: raw)
            count += 1
        }
    }

    private mutating func begin(_ key: String, _ type: MetadataType) {
        key.appendEncoded(to: &bytes)
        type.rawValue.appendEncoded(to: &bytes)
        count += 1
    }

    public mutating func set(_ key: String, _ value: String) {
        begin(key, .string)
        value.appendEncoded(to: &bytes)
    }

    public mutating func set(_ key: String, _ value: UInt32) {
        begin(key, .uint32)
        value.appendEncoded(to: &bytes)
    }

    public mutating func set(_ key: String, _ value: Float) {
        begin(key, .float32)
        value.bitPattern.appendEncoded(to: &bytes)
    }

    public mutating func set(_ key: String, _ value: Bool) {
        begin(key, .bool)
        bytes.append(value ? 1 : 0)
    }

    public mutating func set(_ key: String, _ values: [String]) {
        begin(key, .array)
        MetadataType.string.rawValue.appendEncoded(to: &bytes)
        UInt64(values.count).appendEncoded(to: &bytes)
        for value in values { value.appendEncoded(to: &bytes) }
    }

    public mutating func set(_ key: String, _ values: [Bool]) {
        values.map { $0 ? 1 : 0 as UInt8 }.withUnsafeBytes { setArray(key, .bool, count: values.count, $0) }
    }

    public mutating func set(_ key: String, _ values: [Int32]) { set(key, Numbers(values)) }

    public mutating func set(_ key: String, floats values: [Float]) {
        let bits = Numbers(values.map(\.bitPattern))
        setArray(key, .float32, count: bits.count, bits.raw)
    }

    /// An array whose elements are already encoded.
    mutating func setArray(_ key: String, _ type: MetadataType, count: Int, _ elements: UnsafeRawBufferPointer) {
        begin(key, .array)
        type.rawValue.appendEncoded(to: &bytes)
        UInt64(count).appendEncoded(to: &bytes)
        bytes.append(contentsOf: elements)
    }
}

extension FixedWidthInteger {
    func appendEncoded(to bytes: inout [UInt8]) { withUnsafeBytes(of: littleEndian) { bytes.append(contentsOf: $0) } }
}

extension String {
    func appendEncoded(to bytes: inout [UInt8]) {
        UInt64(utf8.count).appendEncoded(to: &bytes)
        bytes.append(contentsOf: utf8)
    }
}
