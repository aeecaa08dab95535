import Foundation

/// The weights of the small models of Tests/EngineTests/Reference/families, which come from their names
/// (Tests/Families/README.md).
enum FamilyWeights {
    /// mean + spread * k / 64, with k in -64...63 from splitmix64 that the name's FNV-1a hash seeds.
    static func values(_ name: String, count: Int, mean: Float, spread: Float) -> [Float] {
        let seed = name.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        var random = TestRandom(seed: seed)
        return (0..<count).map { _ in mean + spread * Float(Int(random.next() >> 57) - 64) / 64 }
    }
}

extension GGUFBuilder.Value {
    /// A value of the references' `gguf.metadata`: its type and itself.
    init(reference field: [String: Any]) throws {
        switch (field["type"] as? String, field["value"]) {
        case ("uint32", let value as Int): self = .uint32(UInt32(value))
        case ("float32", let value as Double): self = .float32(Float(value))
        case ("bool", let value as Bool): self = .bool(value)
        case ("string", let value as String): self = .string(value)
        case ("array string", let value as [String]): self = .strings(value)
        default: throw CocoaError(.fileReadCorruptFile)
        }
    }
}
