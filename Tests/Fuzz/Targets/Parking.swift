import Engine
import Glibc
import ModelFormat
import Service

extension FuzzTarget {
    /// The file of a parked model. Its length and its sum are mended, so that what lies between is reached.
    static let parkingFile = FuzzTarget("parking-file", longest: 16384) {
        guard let model = try decoder.get() else { return [] }
        let conversations = try [3, 35].map { count in
            let sequence = model.makeSequence()
            let tokens = (0..<Int32(count)).map { $0 }
            try model.run([StepInput(sequence: sequence, tokens: tokens, logits: .none)]) { _, _, _ in }
            return ParkingFile.Conversation(
                tokens: tokens, sequence: sequence, uid: 7, isShared: count == 3, steadyTokens: 2)
        }
        let file = parked(model)
        try file.write(conversations)
        return [try Scratch.read(file.path)]
    } run: { bytes in
        guard let model = try decoder.get() else { return }
        let file = parked(model)
        _ = try Scratch.write("parked/\(ParkingFile.fileName("m"))", mended(bytes))
        for one in try file.take({ model.makeSequence() }) where one.sequence.count < one.sequence.limit {
            try model.run([StepInput(sequence: one.sequence, tokens: [1], logits: .last)]) { _, _, _ in }
        }
        demand(access(file.path, F_OK) != 0, "what was taken is still there")
    }

    private static func parked(_ model: DecoderModel) -> ParkingFile {
        ParkingFile(
            in: "\(Scratch.folder)/parked", named: "m",
            fileHead: UnsafeRawBufferPointer(rebasing: model.file.bytes.prefix(64)), layout: model.makeSequence().layout
        )
    }

    private static func mended(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.count >= 40 else { return bytes }
        var bytes = bytes
        func put(_ value: UInt64, at: Int) {
            for i in 0..<8 { bytes[at + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
        }
        put(UInt64(bytes.count), at: 16)
        put(bytes.dropLast(8).withUnsafeBytes { Checksum.of($0) }, at: bytes.count - 8)
        return bytes
    }
}
