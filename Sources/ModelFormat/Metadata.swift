/// A typed value of a model's metadata. Types and encoding are GGUF's
/// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), which the `.ebb` container shares.
public enum MetadataValue: Sendable {
    case unsigned(UInt64)
    case signed(Int64)
    case float(Double)
    case bool(Bool)
    case string(String)
    case array(MetadataArray)
}

/// GGUF's type numbers.
enum MetadataType: UInt32 {
    case uint8 = 0, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64

    /// Bytes of a value, nil for types of varying size.
    var size: Int? {
        switch self {
        case .uint8, .int8, .bool: 1
        case .uint16, .int16: 2
        case .uint32, .int32, .float32: 4
        case .uint64, .int64, .float64: 8
        case .string, .array: nil
        }
    }
}

/// An array of metadata that stays where the file is mapped: a vocabulary of 262,144 strings costs four bytes each.
///
/// @unchecked Sendable: points into an immutable mapping that `owner` keeps alive.
public struct MetadataArray: @unchecked Sendable {
    public let count: Int
    let type: MetadataType
    let raw: UnsafeRawBufferPointer
    let owner: MappedFile
    /// Where each string's length field starts in `raw`; empty for other types.
    let starts: [UInt32]

    public var isStrings: Bool { type == .string }

    /// The bytes of string `index`, which must be in 0..<count of an array of strings. Empty where the file has changed
    /// since it was opened and they would lie outside.
    public func string(_ index: Int) -> UnsafeRawBufferPointer {
        let start = Int(starts[index]) + 8
        let length = raw.loadUnaligned(fromByteOffset: start - 8, as: UInt64.self)
        guard length <= UInt64(raw.count - start) else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(rebasing: raw[start..<start + Int(length)])
    }

    /// All numbers as integers; nil for strings, floats and nested arrays.
    public func integers() -> [Int64]? {
        switch type {
        case .uint8, .bool: load(UInt8.self)
        case .int8: load(Int8.self)
        case .uint16: load(UInt16.self)
        case .int16: load(Int16.self)
        case .uint32: load(UInt32.self)
        case .int32: load(Int32.self)
        case .uint64: load(UInt64.self)
        case .int64: load(Int64.self)
        case .float32, .float64, .string, .array: nil
        }
    }

    /// All numbers as floats; nil unless the array holds floats.
    public func floats() -> [Float]? {
        switch type {
        case .float32: (0..<count).map { Float(bitPattern: raw.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self)) }
        case .float64:
            (0..<count).map { Float(Double(bitPattern: raw.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self))) }
        default: nil
        }
    }

    private func load<T: FixedWidthInteger>(_: T.Type) -> [Int64] {
        (0..<count).map {
            Int64(truncatingIfNeeded: raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self))
        }
    }
}

/// The key-value section of a model file.
///
/// @unchecked Sendable: points into an immutable mapping that `owner` keeps alive.
public struct Metadata: @unchecked Sendable {
    public private(set) var values: [String: MetadataValue] = [:]
    /// Keys in the file's order.
    public private(set) var keys: [String] = []
    /// Each pair as it stands in the file.
    private(set) var raw: [String: UnsafeRawBufferPointer] = [:]
    private let file: String
    /// Keeps what `raw` points to.
    private let owner: MappedFile

    /// Parses `count` pairs.
    /// - Throws: ``FormatError`` on truncation, unknown types, or a key that stands twice.
    init(count: UInt64, from cursor: inout ByteCursor, owner: MappedFile) throws {
        file = owner.path
        self.owner = owner
        for _ in 0..<count {
            let start = cursor.offset
            let key = try cursor.readString()
            let code = try cursor.read(UInt32.self)
            let value = try Self.value(code, key: key, &cursor, owner)
            guard values.updateValue(value, forKey: key) == nil else {
                throw FormatError("\(cursor.what): the key \(key) stands twice")
            }
            keys.append(key)
            raw[key] = UnsafeRawBufferPointer(rebasing: cursor.bytes[start..<cursor.offset])
        }
    }

    private static func type(_ code: UInt32, key: String, _ cursor: ByteCursor) throws -> MetadataType {
        guard let type = MetadataType(rawValue: code) else {
            throw FormatError("\(cursor.what): \(key) has the unknown metadata type \(code)")
        }
        return type
    }

    private static func value(
        _ code: UInt32, key: String, _ cursor: inout ByteCursor, _ owner: MappedFile
    ) throws -> MetadataValue {
        switch try type(code, key: key, cursor) {
        case .uint8: .unsigned(UInt64(try cursor.read(UInt8.self)))
        case .uint16: .unsigned(UInt64(try cursor.read(UInt16.self)))
        case .uint32: .unsigned(UInt64(try cursor.read(UInt32.self)))
        case .uint64: .unsigned(try cursor.read(UInt64.self))
        case .int8: .signed(Int64(try cursor.read(Int8.self)))
        case .int16: .signed(Int64(try cursor.read(Int16.self)))
        case .int32: .signed(Int64(try cursor.read(Int32.self)))
        case .int64: .signed(try cursor.read(Int64.self))
        case .float32: .float(Double(Float(bitPattern: try cursor.read(UInt32.self))))
        case .float64: .float(Double(bitPattern: try cursor.read(UInt64.self)))
        case .bool: .bool(try cursor.read(UInt8.self) != 0)
        case .string: .string(try cursor.readString())
        case .array: .array(try array(key: key, &cursor, owner, depth: 0))
        }
    }

    private static func array(
        key: String, _ cursor: inout ByteCursor, _ owner: MappedFile, depth: Int
    ) throws -> MetadataArray {
        guard depth < 4 else { throw FormatError("\(cursor.what): \(key) nests arrays too deeply") }
        let type = try type(try cursor.read(UInt32.self), key: key, cursor)
        let count = try cursor.read(UInt64.self)
        let start = cursor.offset
        var starts: [UInt32] = []
        if let size = type.size {
            let (bytes, overflow) = count.multipliedReportingOverflow(by: UInt64(size))
            guard !overflow else { throw FormatError("\(cursor.what): \(key) has an impossible length \(count)") }
            _ = try cursor.take(bytes)
        } else {
            // Every element takes at least 8 bytes: a false count is found before memory is asked for.
            guard count <= UInt64(cursor.remaining / 8) else {
                throw FormatError("\(cursor.what): \(key) has an impossible length \(count)")
            }
            if type == .string { starts.reserveCapacity(Int(count)) }
            for _ in 0..<count {
                if type == .string {
                    guard let position = UInt32(exactly: cursor.offset - start) else {
                        throw FormatError("\(cursor.what): \(key) is longer than 4 GiB")
                    }
                    starts.append(position)
                    _ = try cursor.take(try cursor.read(UInt64.self))
                } else {
                    _ = try array(key: key, &cursor, owner, depth: depth + 1)
                }
            }
        }
        let raw = UnsafeRawBufferPointer(rebasing: cursor.bytes[start..<cursor.offset])
        return MetadataArray(count: Int(count), type: type, raw: raw, owner: owner, starts: starts)
    }

    // MARK: Typed look-up

    public subscript(key: String) -> MetadataValue? { values[key] }

    public func string(_ key: String) -> String? {
        if case .string(let text)? = values[key] { return text }
        return nil
    }

    public func bool(_ key: String) -> Bool? {
        if case .bool(let flag)? = values[key] { return flag }
        return nil
    }

    public func float(_ key: String) -> Float? {
        switch values[key] {
        case .float(let number)?: Float(number)
        case .unsigned(let number)?: Float(number)
        case .signed(let number)?: Float(number)
        default: nil
        }
    }

    public func integer(_ key: String) -> Int? {
        switch values[key] {
        case .unsigned(let number)?: Int(exactly: number)
        case .signed(let number)?: Int(exactly: number)
        default: nil
        }
    }

    public func array(_ key: String) -> MetadataArray? {
        if case .array(let array)? = values[key] { return array }
        return nil
    }

    /// A count that a model cannot be without: present and in 1...limit.
    public func requiredCount(_ key: String, limit: Int) throws -> Int {
        guard values[key] != nil else { throw FormatError("\(file): the metadata lacks \(key)") }
        guard let value = integer(key), (1...limit).contains(value) else {
            throw FormatError("\(file): \(key) is not a number from 1 to \(limit)")
        }
        return value
    }
}
