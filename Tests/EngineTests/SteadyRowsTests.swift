import Engine
import TestKit
import Testing

@Suite("Steady rows")
struct SteadyRowsTests {
    @Test(
        "Next tokens of a few sequences in one step have the bits that each has alone",
        arguments: Kernels.available.map(\.name), [RealModel.smollm2, .gemma3, .qwen2])
    func bits(isa: String, which: RealModel) throws {
        guard isa != "plain", let kernels = try? Kernels.named(isa) else { return }
        let model = try DecoderModel(try which.open(), pool: try WorkerPool(threads: 2), kernels: kernels)
        let steady = model.steadyRows(isDequantized: false)
        #expect(steady == 4 && model.steadyRows(isDequantized: true) == 1)
        // Each sequence is fed once; its copies are read from what was written of it.
        var written: [Int32: [UInt8]] = [:]
        func fed(_ first: Int32) throws -> KVSequence {
            let sequence = model.makeSequence()
            if let bytes = written[first] {
                try sequence.read(bytes)
            } else {
                _ = try model.lastLogits(sequence, (0..<40).map { $0 * 13 + first })
                written[first] = sequence.bytes
            }
            return sequence
        }
        let alone = try model.lastLogits(try fed(100), [7])
        for rows in 2...steady {
            for place in 0..<rows {
                let batch = try (0..<rows).map { row in
                    StepInput(
                        sequence: try fed(row == place ? 100 : Int32(200 + row)), tokens: [row == place ? 7 : 9],
                        logits: .last)
                }
                var found: [Float] = []
                try model.run(batch) { index, _, logits in if index == place { found = Array(logits) } }
                let isEqual = found == alone
                #expect(isEqual, "row \(place) of \(rows)")
            }
        }
    }
}
