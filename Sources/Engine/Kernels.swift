import CKernels
import Glibc

/// A table of kernels for one instruction set.
///
/// @unchecked Sendable: points to a constant table of pure functions.
public struct Kernels: @unchecked Sendable {
    let table: UnsafePointer<ebb_kernels>

    /// `plain`, `avx2` or `avx512vnni`.
    public var name: String { String(cString: table.pointee.name) }

    /// The best table of this CPU, or the one that `EBB_ISA` names.
    /// - Throws: ``EngineError`` where `EBB_ISA` is unknown, or names what this CPU lacks.
    public static func fromEnvironment() throws -> Kernels {
        guard let wanted = getenv("EBB_ISA").map({ String(cString: $0) }), !wanted.isEmpty else {
            return Kernels(table: ebb_kernels_best())
        }
        return try named(wanted)
    }

    public static func named(_ name: String) throws -> Kernels {
        let isas: [String: ebb_isa] = ["plain": EBB_ISA_PLAIN, "avx2": EBB_ISA_AVX2, "avx512vnni": EBB_ISA_AVX512VNNI]
        guard let isa = isas[name] else {
            throw EngineError("EBB_ISA=\(name) is unknown: \(isas.keys.sorted().joined(separator: ", ")) are possible")
        }
        guard let table = ebb_kernels_for(isa) else { throw EngineError("EBB_ISA=\(name): this CPU lacks it") }
        return Kernels(table: table)
    }
}
