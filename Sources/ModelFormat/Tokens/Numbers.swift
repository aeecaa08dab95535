/// Numbers in memory that does not move: a part of a mapped file, or made at run time.
///
/// @unchecked Sendable: the memory is never written after the initializer, and `owner` keeps it.
public struct Numbers<Element: FixedWidthInteger & BitwiseCopyable>: @unchecked Sendable {
    let raw: UnsafeRawBufferPointer
    private let owner: AnyObject
    public let count: Int

    init(_ array: MetadataArray) {
        (raw, owner, count) = (array.raw, array.owner, array.count)
    }

    public init(_ values: [Element]) {
        let memory = OwnedMemory(byteCount: values.count * MemoryLayout<Element>.stride)
        values.withUnsafeBytes { memory.bytes.copyMemory(from: $0) }
        (raw, owner, count) = (UnsafeRawBufferPointer(memory.bytes), memory, values.count)
    }

    /// Number `index`, which must be in 0..<count. Metadata is not aligned.
    public subscript(index: Int) -> Element {
        Element(littleEndian: raw.loadUnaligned(fromByteOffset: index * MemoryLayout<Element>.size, as: Element.self))
    }

    /// Numbers `range`, which must lie in 0..<count; valid while `self` is.
    func bytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        let size = MemoryLayout<Element>.size
        return UnsafeRawBufferPointer(rebasing: raw[range.lowerBound * size..<range.upperBound * size])
    }

    private final class OwnedMemory {
        let bytes: UnsafeMutableRawBufferPointer

        init(byteCount: Int) { bytes = .allocate(byteCount: byteCount, alignment: 8) }

        deinit { bytes.deallocate() }
    }
}

extension Metadata {
    /// An array of exactly this type, where the file is mapped.
    public func numbers<Element>(_ key: String, _: Element.Type) -> Numbers<Element>? {
        guard let array = array(key), array.type == MetadataType(Element.self) else { return nil }
        return Numbers(array)
    }
}

extension Metadata {
    /// An array of 32-bit floats as their bits, where the file is mapped.
    public func floatBits(_ key: String) -> Numbers<UInt32>? {
        guard let array = array(key), array.type == .float32 else { return nil }
        return Numbers(array)
    }
}

extension MetadataEncoder {
    public mutating func set<Element>(_ key: String, _ values: Numbers<Element>) {
        guard let type = MetadataType(Element.self) else { return }
        setArray(key, type, count: values.count, values.raw)
    }
}

extension MetadataType {
    /// The type of an array of such numbers; nil for one that no table uses.
    init?<Element>(_: Element.Type) {
        switch Element.self {
        case is UInt8.Type: self = .uint8
        case is Int32.Type: self = .int32
        case is UInt32.Type: self = .uint32
        default: return nil
        }
    }
}
