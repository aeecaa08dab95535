import CKernels
import Testing
import TestKit

@Suite("The quantizer's kernels")
struct QuantizerKernelTests {
    private static let lengths = [1, 3, 8, 16, 17, 31, 32, 64, 100, 384]

    private func forEachTable(_ body: (String, ebb_kernels, [Float], [Float]) -> Void) {
        var random = TestRandom(seed: 21)
        for n in Self.lengths {
            let (w, h) = (random.floats(n), random.floats(n).map { abs($0) + 0.1 })
            for (name, table) in KernelTables.others { body("\(name), \(n) values", table, w, h) }
        }
    }

    @Test("The range agrees with plain C")
    func range() {
        forEachTable { name, table, w, _ in
            var (low, high, otherLow, otherHigh): (Float, Float, Float, Float) = (0, 0, 0, 0)
            KernelTables.plain.range(w, UInt32(w.count), &low, &high)
            table.range(w, UInt32(w.count), &otherLow, &otherHigh)
            #expect(low == otherLow && high == otherHigh && low <= high, "\(name)")
        }
    }

    @Test("Levels agree with plain C, at every width and for a negative scale")
    func encode() {
        forEachTable { name, table, w, _ in
            for (scale, offset, top) in [(0.1, -0.75, 15), (-0.3, 0.9, 7), (0.01, -1, 255), (0, 0.5, 3)] {
                var (a, b) = ([UInt8](repeating: 9, count: w.count), [UInt8](repeating: 9, count: w.count))
                KernelTables.plain.encode(w, UInt32(w.count), Float(scale), Float(offset), UInt32(top), &a)
                table.encode(w, UInt32(w.count), Float(scale), Float(offset), UInt32(top), &b)
                #expect(a == b, "\(name)")
                #expect(b.allSatisfy { Int($0) <= top })
            }
        }
    }

    @Test("The sums over a block agree with plain C, with and without weights and shrinkage")
    func sums() {
        forEachTable { name, table, w, h in
            for weights in [nil, h] {
                for beta in [Float(0), 4] {
                    let shrinkage = ebb_shrinkage(beta: beta, p: 0.7)
                    let a = sums(KernelTables.plain, w, weights, shrinkage)
                    let b = sums(table, w, weights, shrinkage)
                    #expect(relativeError(a, b) < 1e-4, "\(name) beta \(beta)")
                }
            }
        }
    }

    private func sums(_ table: ebb_kernels, _ w: [Float], _ h: [Float]?, _ shrinkage: ebb_shrinkage) -> [Float] {
        var sums = ebb_block_sums()
        if let h {
            table.block_sums(w, h, UInt32(w.count), 0.3, -0.9, 7, shrinkage, &sums)
        } else {
            table.block_sums(w, nil, UInt32(w.count), 0.3, -0.9, 7, shrinkage, &sums)
        }
        return [sums.error, sums.h, sums.q, sums.qq, sums.t, sums.tq]
    }

    @Test("axpy agrees with plain C")
    func axpy() {
        forEachTable { name, table, w, h in
            var (a, b) = (h, h)
            KernelTables.plain.axpy(&a, w, -0.7, UInt32(w.count))
            table.axpy(&b, w, -0.7, UInt32(w.count))
            #expect(relativeError(a, b) < 1e-6, "\(name)")
        }
    }

    @Test("LayerNorm and GELU agree with plain C")
    func encoderVectors() {
        forEachTable { name, table, w, h in
            var (a, b) = (w, w)
            KernelTables.plain.layer_norm(w, h, w, &a, UInt32(w.count), 1e-12)
            table.layer_norm(w, h, w, &b, UInt32(w.count), 1e-12)
            if w.count > 1 { #expect(relativeError(a, b) < 1e-4, "\(name)") }
            (a, b) = (w.map { $0 * 6 }, w.map { $0 * 6 })
            KernelTables.plain.gelu(&a, h, UInt32(w.count))
            table.gelu(&b, h, UInt32(w.count))
            #expect(relativeError(a, b) < 1e-5, "\(name)")
        }
    }
}
