// The fuzzer of one target, `EBB_FUZZ_TARGET`: libFuzzer calls these two functions.
import Foundation
import FuzzTargets
import Glibc

private let target: FuzzTarget = {
    let name = ProcessInfo.processInfo.environment["EBB_FUZZ_TARGET"] ?? ""
    guard let target = FuzzTarget.named(name) else {
        print("EBB_FUZZ_TARGET is one of \(FuzzTarget.all.map(\.name).joined(separator: " "))")
        exit(2)
    }
    return target
}()

/// Seconds of CPU that one input may take. The wall clock says nothing on a busy machine.
private let patience = 2.0

private func processSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}

/// With `EBB_FUZZ_SEEDS`, writes the seeds of the target into that folder, and its longest input, and ends.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutableRawPointer, _ arguments: UnsafeMutableRawPointer) -> CInt {
    guard let folder = ProcessInfo.processInfo.environment["EBB_FUZZ_SEEDS"] else { return 0 }
    do {
        for (index, seed) in try target.seeds().enumerated() {
            try Data(seed).write(to: URL(fileURLWithPath: "\(folder)/seed-\(index)"))
        }
        print(target.longest)
        exit(0)
    } catch {
        print("no seeds: \(error)")
        exit(2)
    }
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let start = processSeconds()
    try? target.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
    let taken = processSeconds() - start
    if taken > patience {
        FileHandle.standardError.write(Data("broken promise: one input took \(taken) s of CPU\n".utf8))
        abort()
    }
    return 0
}
