import Engine
import Foundation
import Measuring
import Quantization

/// `ebbctl bench --kernels`.
struct KernelReport {
    let threads: Int?
    let json: Bool

    private struct Row: Encodable {
        struct Point: Encodable {
            let rows: Int
            let gops, gbps, of_limit: Double
        }
        let isa: String
        let threads, bits, block: Int
        let asymmetric: Bool
        let points: [Point]
    }

    private struct Report: Encodable {
        struct Limits: Encodable { let int8_gops, float_gflops, read_gbps: Double }
        let limits: [String: Limits]
        let rows: [Row]
    }

    /// `ebbctl bench --limits`: of the instruction set that models run with.
    func limits() throws {
        let count = threads ?? WorkerPool.defaultThreads
        let kernels = try Kernels.fromEnvironment()
        let limit = Self.limits(try MachineLimits(kernels, try WorkerPool(threads: count), seconds: 0.5))
        if json { return try JSONOutput.line(limit) }
        try Terminal.out(Self.text(kernels.name, limit, [], count))
    }

    private static func limits(_ limit: MachineLimits) -> Report.Limits {
        .init(int8_gops: limit.int8 / 1e9, float_gflops: limit.float / 1e9, read_gbps: limit.read / 1e9)
    }

    private static let blocks = [16, 32, 64, 128, 256, -1]

    func run() throws {
        let count = threads ?? WorkerPool.defaultThreads
        let pool = try WorkerPool(threads: count)
        let progress = ProgressLine("bench kernels")
        var rows: [Row] = []
        var limits: [String: Report.Limits] = [:]
        let wanted = ProcessInfo.processInfo.environment["EBB_ISA"]
        for kernels in Kernels.available where kernels.name == wanted ?? kernels.name {
            progress.note("\(kernels.name): limits")
            let limit = try MachineLimits(kernels, pool)
            limits[kernels.name] = Self.limits(limit)
            // Plain C is the definition, not a contender.
            if kernels.name == "plain", wanted == nil { continue }
            let bench = KernelBench(kernels, pool)
            for bits in 2...8 {
                for block in Self.blocks {
                    for asymmetric in [true, false] {
                        progress.note("\(kernels.name): \(bits) bit, block \(block)")
                        let scheme = try Scheme(bits: bits, block: block, asymmetric: asymmetric)
                        let points = try bench.run(scheme).map {
                            Row.Point(
                                rows: $0.rows, gops: $0.operations / 1e9, gbps: $0.bytes / 1e9,
                                of_limit: max($0.operations / limit.int8, $0.bytes / limit.read))
                        }
                        rows.append(
                            Row(
                                isa: kernels.name, threads: count, bits: bits, block: block, asymmetric: asymmetric,
                                points: points))
                    }
                }
            }
        }
        progress.clear()
        if json { return try JSONOutput.pretty(Report(limits: limits, rows: rows)) }
        for kernels in Kernels.available {
            guard let limit = limits[kernels.name] else { continue }
            try Terminal.out(Self.text(kernels.name, limit, rows.filter { $0.isa == kernels.name }, count))
        }
    }

    private static func text(_ isa: String, _ limit: Report.Limits, _ rows: [Row], _ threads: Int) -> String {
        let (int8, float) = (Human.decimal(limit.int8_gops, 0), Human.decimal(limit.float_gflops, 0))
        let head =
            "\(isa), \(threads) threads: int8 \(int8) Gop/s, float \(float) Gflop/s, "
            + "read \(Human.decimal(limit.read_gbps, 1)) GB/s\n"
        guard !rows.isEmpty else { return head + "\n" }
        let counts = KernelBench.rowCounts.map { $0 == 1 ? "1 GB/s" : $0 == 2 ? "2 Gop/s" : "\($0)" }
        var table = Table(["bits", "block", "", "%bw"] + counts + ["%int8"], right: Set(0...12).subtracting([2]))
        for row in rows {
            let first = row.points.first.map { Human.decimal($0.gbps, 1) } ?? ""
            let bandwidth = row.points.first.map { Human.decimal($0.gbps / limit.read_gbps * 100, 0) } ?? ""
            let rest = row.points.dropFirst().map { Human.decimal($0.gops, 0) }
            let share = row.points.last.map { Human.decimal($0.gops / limit.int8_gops * 100, 0) } ?? ""
            let start = ["\(row.bits)", "\(row.block)", row.asymmetric ? "asym" : "sym", bandwidth, first]
            table.add(start + rest + [share])
        }
        return head + table.text + "\n"
    }
}
