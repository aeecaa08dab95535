import EbbProtocol
import Foundation
import NIOCore
import Testing

@Suite("Protocol vectors")
struct VectorTests {
    struct Vector: Sendable {
        let meaning: String
        let bytes: [UInt8]
        let envelopeJSON: String
    }

    /// protocol/vectors.json, which every implementation reads; its bytes were made by another implementation of protobuf.
    static let vectors: [Vector] = {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(
            path: "../../protocol/vectors.json")
        guard let data = try? Data(contentsOf: path),
            let list = (try? JSONSerialization.jsonObject(with: data)) as? [[String: Any]]
        else { return [] }
        return list.compactMap { entry in
            guard let meaning = entry["meaning"] as? String, let hex = entry["hex"] as? String,
                let envelope = entry["envelope"], let json = try? JSONSerialization.data(withJSONObject: envelope)
            else { return nil }
            let digits = Array(hex.utf8)
            let bytes = stride(from: 0, to: digits.count, by: 2).compactMap {
                UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)
            }
            return Vector(meaning: meaning, bytes: bytes, envelopeJSON: String(decoding: json, as: UTF8.self))
        }
    }()

    @Test("There are vectors") func present() { #expect(Self.vectors.count >= 24) }

    @Test("A vector's bytes decode to its meaning", arguments: vectors)
    func decodes(vector: Vector) throws {
        var buffer = ByteBuffer(bytes: vector.bytes)
        var decoder = FrameDecoder()
        let envelope = try #require(try decoder.decode(buffer: &buffer))
        #expect(buffer.readableBytes == 0)
        #expect(envelope == (try EbbEnvelope(jsonString: vector.envelopeJSON)), "\(vector.meaning)")
    }

    @Test("A vector's meaning encodes to its bytes", arguments: vectors)
    func encodes(vector: Vector) throws {
        var buffer = ByteBuffer()
        try FrameEncoder().encode(data: try EbbEnvelope(jsonString: vector.envelopeJSON), out: &buffer)
        #expect(Array(buffer.readableBytesView) == vector.bytes, "\(vector.meaning)")
    }

    @Test("A frame in pieces is decoded when it is whole")
    func pieces() throws {
        for vector in Self.vectors {
            var decoder = FrameDecoder()
            var buffer = ByteBuffer()
            for (index, byte) in vector.bytes.enumerated() {
                buffer.writeInteger(byte)
                let envelope = try decoder.decode(buffer: &buffer)
                #expect((envelope != nil) == (index == vector.bytes.count - 1))
            }
        }
    }

    @Test("A length beyond the limit is refused before its payload comes")
    func tooLarge() {
        for length: UInt32 in [UInt32(EbbProtocol.maxFrameBytes) + 1, .max] {
            var buffer = ByteBuffer(integer: length)
            var decoder = FrameDecoder()
            #expect(throws: FrameError.tooLarge(Int(length))) { try decoder.decode(buffer: &buffer) }
        }
    }

    @Test("A connection that ends within a frame says so")
    func incomplete() {
        var buffer = ByteBuffer(bytes: [0, 0, 0, 9, 1])
        var decoder = FrameDecoder()
        #expect(throws: FrameError.incomplete) { try decoder.decodeLast(buffer: &buffer, seenEOF: true) }
    }

    @Test("Random bytes never trap the decoder")
    func fuzz() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            let vector = Self.vectors.randomElement(using: &random)?.bytes ?? []
            var bytes = vector
            for _ in 0..<3 where !bytes.isEmpty {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            var buffer = ByteBuffer(bytes: bytes)
            var decoder = FrameDecoder()
            _ = try? decoder.decode(buffer: &buffer)
        }
    }
}
