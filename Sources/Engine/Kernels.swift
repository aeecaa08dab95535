import CKernels
import Glibc

/// A table of kernels for one instruction set.
///
/// @unchecked Sendable: points to a constant table of pure functions.
public struct Kernels: @unchecked Sendable {
    package let table: UnsafePointer<ebb_kernels>

    /// As `EBB_ISA` names it.
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
        let all = allNames
        guard let index = all.firstIndex(of: name) else {
            throw EngineError("EBB_ISA=\(name) is unknown: \(all.joined(separator: ", ")) are possible")
        }
        guard let table = ebb_kernels_for(ebb_isa(UInt32(index))) else {
            throw EngineError(
                "EBB_ISA=\(name): this CPU lacks it (it has \(available.map(\.name).joined(separator: ", ")))")
        }
        return Kernels(table: table)
    }

    /// The instruction sets that there are kernels for, of all architectures.
    public static var allNames: [String] {
        (0..<EBB_ISA_COUNT.rawValue).map { String(cString: ebb_isa_name(ebb_isa($0))) }
    }

    /// The tables that this CPU can run, the best last.
    public static var available: [Kernels] {
        (0..<EBB_ISA_COUNT.rawValue).compactMap { ebb_kernels_for(ebb_isa($0)).map(Kernels.init) }
    }
}
