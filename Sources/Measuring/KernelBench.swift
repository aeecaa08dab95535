import CKernels
import Engine
import Quantization

/// What this machine can do at most, measured with the same threads as what is compared with it.
public struct MachineLimits: Sendable {
    /// Operations a second, a multiply-add counting as two.
    public let int8, float: Double
    /// Bytes a second, each thread reading memory of its own.
    public let read: Double

    public init(_ kernels: Kernels, _ pool: WorkerPool, seconds: Double = 0.15) throws {
        let threads = pool.threads
        let bytes = 192 << 20
        let memory = try AnonymousMemory(byteCount: bytes * threads)
        memory.base.initializeMemory(as: UInt8.self, repeating: 1, count: bytes * threads)
        let rounds: UInt64 = 200_000
        int8 = Self.rate(threads, pool, seconds) { _ in
            var sink: Int32 = 0x0101_0101
            return Double(kernels.table.pointee.peak_int8(rounds, &sink))
        }
        float = Self.rate(threads, pool, seconds) { _ in
            var sink: Float = 0.5
            return Double(kernels.table.pointee.peak_float(rounds, &sink))
        }
        read = Self.rate(threads, pool, seconds) { thread in
            // The sum is used, or the reading could be left out.
            kernels.table.pointee.read(memory.base + thread * bytes, bytes) == 0 ? 0 : Double(bytes)
        }
    }

    private static func rate(_ threads: Int, _ pool: WorkerPool, _ seconds: Double, _ work: (Int) -> Double) -> Double {
        var best = 0.0
        let end = ContinuousClock.now + .seconds(seconds)
        let done = UnsafeMutablePointer<Double>.allocate(capacity: threads)
        defer { done.deallocate() }
        repeat {
            let start = ContinuousClock.now
            pool.run(items: threads, grain: 1) { range, _ in for item in range { done[item] = work(item) } }
            let total = (0..<threads).reduce(0) { $0 + done[$1] }
            best = max(best, total / (ContinuousClock.now - start).seconds)
        } while ContinuousClock.now < end
        return best
    }
}

/// Speed of the integer products by shape: one scheme, several numbers of rows.
public struct KernelBench: Sendable {
    public struct Result: Sendable {
        public let rows: Int
        /// Operations and bytes of weights a second.
        public let operations, bytes: Double
    }

    public static let rowCounts = [1, 2, 4, 8, 16, 64, 512]
    private static let (n, k) = (1024, 2048)
    /// Weights that pass by before any is read again, so that one row measures memory, not a cache.
    private static let footprint = 160 << 20

    private let kernels: Kernels
    private let pool: WorkerPool

    public init(_ kernels: Kernels, _ pool: WorkerPool) { (self.kernels, self.pool) = (kernels, pool) }

    /// - Throws: ``EngineError`` where the system refuses the memory.
    public func run(_ scheme: Scheme, rowCounts: [Int] = KernelBench.rowCounts, seconds: Double = 0.03) throws
        -> [Result]
    {
        let (n, k) = (Self.n, Self.k)
        let encoding = Encoding.quantized(scheme)
        guard let bytes = encoding.byteCount(n: n, k: k) else { throw EngineError("an impossible shape") }
        let copies = max(1, Self.footprint / bytes)
        let weights = try AnonymousMemory(byteCount: copies * bytes)
        fill(weights, scheme, tileBytes: bytes / (n / 16))
        return try rowCounts.map { rows in
            let activations = ActivationBuffer()
            try activations.shape(rows: rows, k: k)
            var view = activations.view
            let out = try AnonymousMemory(byteCount: rows * n * 4)
            let x = (0..<rows * k).map { Float(($0 * 31) % 17) / 8 - 1 }
            for row in stride(from: 0, to: rows, by: 8) {
                kernels.table.pointee.quantize(x, k, UInt32(row), UInt32(min(8, rows - row)), &view)
            }
            var (best, copy) = (0.0, 0)
            let end = ContinuousClock.now + .seconds(seconds)
            repeat {
                let start = ContinuousClock.now
                let passes = rows == 1 ? copies : 1
                for _ in 0..<passes {
                    multiply(encoding.matrix(data: weights.base + copy % copies * bytes, n: n, k: k), view, out)
                    copy += 1
                }
                let time = (ContinuousClock.now - start).seconds
                best = max(best, Double(passes) / time)
            } while ContinuousClock.now < end
            return Result(rows: rows, operations: best * Double(2 * n * k * rows), bytes: best * Double(bytes))
        }
    }

    private func multiply(_ matrix: ebb_matrix, _ activations: ebb_activations, _ out: AnonymousMemory) {
        let tiles = Self.n / 16
        pool.run(items: tiles, grain: max(1, tiles / (pool.threads * 4))) { range, thread in
            var (matrix, activations) = (matrix, activations)
            kernels.table.pointee.matmul_q(
                &matrix, &activations, UInt32(range.lowerBound), UInt32(range.upperBound),
                out.base.assumingMemoryBound(to: Float.self), Self.n, pool.scratch(thread))
        }
    }

    /// One tile with sensible scales, repeated.
    private func fill(_ memory: AnonymousMemory, _ scheme: Scheme, tileBytes: Int) {
        let tile = UnsafeMutableRawBufferPointer(start: memory.base, count: tileBytes)
        let writer = TileWriter(scheme: scheme, k: Self.k)
        let code = ChannelCode(scheme: scheme, k: Self.k)
        for i in 0..<Self.k { code.quants[i] = UInt8((i * 7) % (1 << scheme.bits)) }
        for block in code.scales.indices { code.scales[block] = UInt32(ebb_f32_to_f16(0.01)) }
        for lane in 0..<16 { writer.write(code, lane: lane, into: tile) }
        for at in stride(from: tileBytes, through: memory.byteCount - tileBytes, by: tileBytes) {
            (memory.base + at).copyMemory(from: memory.base, byteCount: tileBytes)
        }
    }
}
