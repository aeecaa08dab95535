import Foundation

/// Writes values as JSON, for machines.
enum JSONOutput {
    /// One value on one line.
    static func line(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        FileHandle.standardOutput.write(try encoder.encode(value) + [0x0a])
    }

    /// A value spread over lines.
    static func pretty(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
        FileHandle.standardOutput.write(try encoder.encode(value) + [0x0a])
    }
}
