import CKernels
import Quantization
import TestKit

/// A random matrix in the tiled layout.
final class TestMatrix {
    let encoding: Encoding
    let n: Int
    let k: Int
    private let start: UnsafeRawPointer

    init(_ encoding: Encoding, n: Int, k: Int, random: inout TestRandom) throws {
        (self.encoding, self.n, self.k) = (encoding, n, k)
        let bytes = encoding.byteCount(n: n, k: k) ?? 0
        let base = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        let memory = UnsafeMutableRawBufferPointer(start: base, count: bytes)
        start = UnsafeRawPointer(base)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        switch encoding {
        case .quantized(let scheme): Self.fill(memory, scheme, n, k, &random)
        case .f32:
            for i in 0..<bytes / 4 {
                memory.storeBytes(of: Float.random(in: -1...1, using: &random), toByteOffset: i * 4, as: Float.self)
            }
        case .f16:
            for i in 0..<bytes / 2 { memory.storeBytes(of: Self.half(&random), toByteOffset: i * 2, as: UInt16.self) }
        case .bf16:
            for i in 0..<bytes / 2 {
                let bits = UInt16(Float.random(in: -1...1, using: &random).bitPattern >> 16)
                memory.storeBytes(of: bits, toByteOffset: i * 2, as: UInt16.self)
            }
        }
    }

    deinit { start.deallocate() }

    var view: ebb_matrix { encoding.matrix(data: start, n: n, k: k) }

    private static func half(_ random: inout TestRandom) -> UInt16 {
        ebb_f32_to_f16(Float.random(in: -0.1...0.1, using: &random))
    }

    private static func fill(
        _ memory: UnsafeMutableRawBufferPointer, _ scheme: Scheme, _ n: Int, _ k: Int, _ random: inout TestRandom
    ) {
        let writer = TileWriter(scheme: scheme, k: k)
        let code = ChannelCode(scheme: scheme, k: k)
        for channel in 0..<n {
            code.clear()
            for i in 0..<k { code.quants[i] = UInt8.random(in: 0...UInt8((1 << scheme.bits) - 1), using: &random) }
            for b in code.scales.indices {
                let wide = scheme.scale == .f32
                let scale = Float.random(in: 0.001...0.1, using: &random)
                let offset = Float.random(in: -0.1...0.1, using: &random)
                code.scales[b] =
                    switch scheme.scale {
                    case .f32: scale.bitPattern
                    case .e8m0: UInt32.random(in: 118...129, using: &random)
                    case .f16, .twoLevel, .twoLevelPacked: UInt32(ebb_f32_to_f16(scale))
                    }
                code.offsets[b] = wide ? offset.bitPattern : UInt32(ebb_f32_to_f16(offset))
                code.subScales[b] = UInt8.random(in: .min ... .max, using: &random)
                code.subMins[b] = UInt8.random(in: 0...63, using: &random)
            }
            for r in code.superScales.indices {
                code.superScales[r] = half(&random)
                code.superMins[r] = half(&random)
            }
            let tile = channel / 16 * writer.tileBytes
            writer.write(
                code, lane: channel % 16,
                into: UnsafeMutableRawBufferPointer(rebasing: memory[tile..<tile + writer.tileBytes]))
        }
    }

    /// All values, [n][k], by the definition of the layout.
    var dequantized: [[Float]] {
        var matrix = view
        return (0..<n).map { channel in
            var row = [Float](repeating: 0, count: k)
            ebb_dequantize_channel(&matrix, UInt32(channel), &row)
            return row
        }
    }
}

/// Packed activations of random rows.
final class TestActivations {
    let rows: Int
    let k: Int
    let values: [Float]
    private(set) var view = ebb_activations()
    private let memory: UnsafeMutableRawPointer
    private let sizes: [Int]

    init(rows: Int, k: Int, block: Int, values: [Float], table: ebb_kernels) {
        (self.rows, self.k, self.values) = (rows, k, values)
        let kp = (k + 31) / 32 * 32
        sizes = [
            rows * kp, rows * kp / block * 4, rows * kp / 32 * 4, rows * kp / 32 * 4, rows * kp / 16 * 4,
            rows * kp / 16 * 4, rows * k * 4, rows * ((k + 1) / 2) * 4,
        ]
        memory = .allocate(byteCount: sizes.reduce(0) { $0 + ($1 + 63) / 64 * 64 }, alignment: 64)
        var at = memory
        func next(_ i: Int) -> UnsafeMutableRawPointer {
            defer { at += (sizes[i] + 63) / 64 * 64 }
            return at
        }
        (view.rows, view.k, view.kp, view.block) = (UInt32(rows), UInt32(k), UInt32(kp), UInt32(block))
        view.q = next(0).assumingMemoryBound(to: Int8.self)
        view.scale = next(1).assumingMemoryBound(to: Float.self)
        view.sum = next(2).assumingMemoryBound(to: Float.self)
        view.sum32 = next(3).assumingMemoryBound(to: Int32.self)
        view.sum16 = next(4).assumingMemoryBound(to: Int32.self)
        view.lanes = next(5).assumingMemoryBound(to: UInt32.self)
        view.f = next(6).assumingMemoryBound(to: Float.self)
        view.pairs = next(7).assumingMemoryBound(to: UInt32.self)
        for row in stride(from: 0, to: rows, by: 8) {
            table.quantize(values, k, UInt32(row), UInt32(min(8, rows - row)), &view)
            table.pack(values, k, UInt32(row), UInt32(min(8, rows - row)), &view)
            table.pack_bf16?(values, k, UInt32(row), UInt32(min(8, rows - row)), &view)
        }
    }

    deinit { memory.deallocate() }

    var quants: [Int8] { Array(UnsafeBufferPointer(start: view.q, count: sizes[0])) }
    var scales: [Float] { Array(UnsafeBufferPointer(start: view.scale, count: sizes[1] / 4)) }
    var sums: [Float] { Array(UnsafeBufferPointer(start: view.sum, count: sizes[2] / 4)) }
    var sums32: [Int32] { Array(UnsafeBufferPointer(start: view.sum32, count: sizes[3] / 4)) }
    var sums16: [Int32] { Array(UnsafeBufferPointer(start: view.sum16, count: sizes[4] / 4)) }
    var floats: [Float] { Array(UnsafeBufferPointer(start: view.f, count: sizes[6] / 4)) }
}

enum Product {
    /// a W^T by a table's integer, float or bf16 kernel, [rows][n]; tiles are done in two calls, as two threads would.
    static func run(
        _ table: ebb_kernels, _ matrix: TestMatrix, _ activations: TestActivations, integers: Bool, inBf16: Bool = false
    ) -> [Float] {
        var (w, a) = (matrix.view, activations.view)
        var out = [Float](repeating: .nan, count: activations.rows * matrix.n)
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: EBB_SCRATCH_BYTES, alignment: 64)
        defer { scratch.deallocate() }
        let tiles = UInt32((matrix.n + 15) / 16)
        let kernel = inBf16 ? table.matmul_bf16 : integers ? table.matmul_q : table.matmul_f
        kernel?(&w, &a, 0, tiles / 2, &out, matrix.n, scratch)
        kernel?(&w, &a, tiles / 2, tiles, &out, matrix.n, scratch)
        return out
    }
}
