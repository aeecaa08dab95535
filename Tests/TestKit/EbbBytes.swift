import Foundation
import ModelFormat

/// Changes a container's weights where they lie, so that its checksums stay right: what a damaged original, imported
/// before anyone looked, would be.
public enum EbbBytes {
    /// Writes bytes into a tensor of the file at `path`.
    public static func write(_ bytes: [UInt8], at place: Int, of tensor: String, in path: String) throws {
        let file = try EbbFile(path: path)
        guard let stored = file.tensors[tensor] else { throw CocoaError(.fileNoSuchFile) }
        var data = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        let range = stored.offset..<stored.offset + stored.byteCount
        let old = checksum(data[range])
        data.replaceSubrange(stored.offset + place..<stored.offset + place + bytes.count, with: bytes)
        let head = data.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 32, as: UInt64.self) }
        let table = data.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 40, as: UInt64.self) }
        let end = 64 + Int(head) + Int(table)
        guard let found = data[64 + Int(head)..<end].firstRange(of: old) else { throw CocoaError(.fileReadCorruptFile) }
        data.replaceSubrange(found, with: checksum(data[range]))
        data.replaceSubrange(48..<56, with: checksum(data[..<48] + data[64..<end]))
        try Data(data).write(to: URL(fileURLWithPath: path))
    }

    /// Writes another version into the header of the file at `path`.
    public static func set(version: UInt8, of path: String) throws {
        var data = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        let lengths = data.withUnsafeBytes { bytes in
            [32, 40].map { Int(bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self)) }
        }
        data[8] = version
        data.replaceSubrange(48..<56, with: checksum(data[..<48] + data[64..<64 + lengths[0] + lengths[1]]))
        try Data(data).write(to: URL(fileURLWithPath: path))
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        withUnsafeBytes(of: bytes.withUnsafeBytes { Checksum.of($0) }.littleEndian) { Array($0) }
    }
}
