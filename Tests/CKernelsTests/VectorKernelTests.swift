import CKernels
import Testing
import TestKit

@Suite("Vector kernels")
struct VectorKernelTests {
    private static let lengths = [1, 7, 8, 15, 16, 17, 31, 33, 64, 100, 576, 1000]

    /// Compares a kernel of every table with plain, over all lengths.
    private func compare(_ tolerance: Float = 1e-5, _ run: (ebb_kernels, [Float], [Float]) -> [Float]) {
        var random = TestRandom(seed: 1)
        for n in Self.lengths {
            let (a, b) = (random.floats(n).map { $0 * 4 }, random.floats(n))
            let expected = run(KernelTables.plain, a, b)
            for (name, table) in KernelTables.others {
                #expect(relativeError(expected, run(table, a, b)) < tolerance, "\(name), \(n) values")
            }
        }
    }

    @Test("RMSNorm agrees with plain C")
    func rmsNorm() {
        compare { table, x, weight in
            var out = x
            table.rms_norm(x, weight, &out, UInt32(x.count), 1e-5)
            return out
        }
    }

    @Test("Softmax agrees with plain C")
    func softmax() {
        compare { table, x, _ in
            var out = x
            table.softmax(&out, UInt32(x.count))
            return out
        }
    }

    @Test("Softmax sums to one, whatever the size of its input")
    func softmaxSumsToOne() {
        for (name, table) in [("plain", KernelTables.plain)] + KernelTables.others {
            var x: [Float] = [1000, -1000, 999, 0, 1000, 3e4, 2.9e4]
            table.softmax(&x, UInt32(x.count))
            #expect(abs(x.reduce(0, +) - 1) < 1e-6, "\(name)")
        }
    }

    @Test("The SiLU gate agrees with plain C")
    func siluGate() {
        compare { table, gate, up in
            var out = gate
            table.silu_gate(gate, up, &out, UInt32(gate.count))
            return out
        }
    }

    @Test("The GELU gate agrees with plain C")
    func geluGate() {
        compare { table, gate, up in
            var out = gate
            table.gelu_gate(gate, up, &out, UInt32(gate.count))
            return out
        }
    }

    @Test("The clamped gate agrees with plain C, on both sides of its bounds")
    func clampedGate() {
        compare { table, gate, up in
            var out = gate
            let (gate, up) = (gate.map { $0 * 4 }, up.map { $0 * 12 })
            table.clamped_gate(gate, up, &out, UInt32(gate.count))
            return out
        }
    }

    @Test("The soft cap agrees with plain C, and keeps values below it")
    func softCap() {
        compare { table, x, _ in
            var out = x.map { $0 * 10 }
            table.soft_cap(&out, 3, UInt32(x.count))
            #expect(out.allSatisfy { abs($0) <= 3 })
            return out
        }
    }

    @Test("Gates stay finite at the ends of the range")
    func gatesStayFinite() {
        let gate: [Float] = [-1e4, -200, -90, -88, 0, 88, 90, 200, 1e4]
        for (name, table) in [("plain", KernelTables.plain)] + KernelTables.others {
            var (silu, gelu) = (gate, gate)
            table.silu_gate(gate, Array(repeating: 1, count: gate.count), &silu, UInt32(gate.count))
            table.gelu_gate(gate, Array(repeating: 1, count: gate.count), &gelu, UInt32(gate.count))
            var clamped = gate
            table.clamped_gate(gate, gate, &clamped, UInt32(gate.count))
            #expect(!(silu + gelu + clamped).contains { !$0.isFinite }, "\(name): \(silu) \(gelu) \(clamped)")
        }
    }

    @Test("Addition agrees with plain C")
    func add() {
        compare { table, x, y in
            var out = x
            table.add(&out, y, UInt32(x.count))
            return out
        }
    }

    @Test("RoPE agrees with plain C in both pairings", arguments: [16, 32, 64, 96, 256])
    func rope(headDim: Int) {
        var random = TestRandom(seed: 2)
        let x = random.floats(3 * headDim)
        let (cosines, sines) = (random.floats(headDim / 2), random.floats(headDim / 2))
        for interleaved: UInt32 in [0, 1] {
            var expected = x
            KernelTables.plain.rope(&expected, cosines, sines, 3, UInt32(headDim), interleaved)
            for (name, table) in KernelTables.others {
                var found = x
                table.rope(&found, cosines, sines, 3, UInt32(headDim), interleaved)
                #expect(relativeError(expected, found) < 1e-6, "\(name), interleaved \(interleaved)")
            }
        }
    }

    @Test("Quantized activations are those of plain C", arguments: [16, 32])
    func quantize(block: Int) {
        var random = TestRandom(seed: 4)
        for (rows, k) in [(1, 1), (1, 32), (3, 33), (8, 64), (9, 100), (17, 576)] {
            var values = random.floats(rows * k)
            for i in 0..<min(k, 32) { values[i] = 0 }  // an all-zero block
            let expected = TestActivations(rows: rows, k: k, block: block, values: values, table: KernelTables.plain)
            for (name, table) in KernelTables.others {
                let found = TestActivations(rows: rows, k: k, block: block, values: values, table: table)
                #expect(found.quants == expected.quants, "\(name) \(rows) x \(k)")
                #expect(found.sums16 == expected.sums16 && found.sums32 == expected.sums32, "\(name) \(rows) x \(k)")
                #expect(relativeError(expected.scales, found.scales) < 1e-6, "\(name) \(rows) x \(k)")
                #expect(relativeError(expected.sums, found.sums) < 1e-5, "\(name) \(rows) x \(k)")
                #expect(found.floats == expected.floats, "\(name) \(rows) x \(k)")
            }
        }
    }

    @Test("Every half converts to float and back")
    func halvesRoundTrip() {
        for bits in UInt16.min ... .max where bits & 0x7c00 != 0x7c00 || bits & 0x3ff == 0 {
            #expect(ebb_f32_to_f16(ebb_f16_to_f32(bits)) == bits)
        }
    }
}
