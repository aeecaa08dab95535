import CKernels

/// The tables that this CPU can run, beside plain.
enum KernelTables {
    static var plain: ebb_kernels { ebb_kernels_for(EBB_ISA_PLAIN).pointee }
    static var others: [(name: String, table: ebb_kernels)] {
        (EBB_ISA_PLAIN.rawValue + 1..<EBB_ISA_COUNT.rawValue).compactMap { isa in
            ebb_kernels_for(ebb_isa(isa)).map { (String(cString: $0.pointee.name), $0.pointee) }
        }
    }
}

/// The largest difference of two arrays, relative to the largest value of the first.
func relativeError(_ a: [Float], _ b: [Float]) -> Float {
    let scale = a.map(abs).max() ?? 0
    let worst = zip(a, b).map { $0.isFinite && $1.isFinite ? abs($0 - $1) : .infinity }.max() ?? 0
    return scale > 0 ? worst / scale : worst
}
