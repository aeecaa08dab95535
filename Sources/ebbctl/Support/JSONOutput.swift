import EbbProtocol
import Foundation

/// Writes values as JSON, for machines.
enum JSONOutput {
    /// One value on one line.
    static func line(_ value: some Encodable) throws { try write(value, []) }

    /// A value spread over lines.
    static func pretty(_ value: some Encodable) throws { try write(value, .prettyPrinted) }

    /// JSON that is there already.
    static func text(_ json: String) throws { try Terminal.raw(escaped(json) + "\n") }

    private static func write(_ value: some Encodable, _ formatting: JSONEncoder.OutputFormatting) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, formatting]
        try text(String(decoding: try encoder.encode(value), as: UTF8.self))
    }

    /// The same JSON with every control of a string as `\u….`, so that it is safe on a terminal too.
    static func escaped(_ json: String) -> String {
        func isFine(_ scalar: Unicode.Scalar) -> Bool { scalar == "\n" || !scalar.isControl }
        guard !json.unicodeScalars.allSatisfy(isFine) else { return json }
        var out = ""
        for scalar in json.unicodeScalars {
            if isFine(scalar) {
                out.unicodeScalars.append(scalar)
            } else {
                for unit in UTF16.encode(scalar).map(Array.init) ?? [] {
                    let digits = String(unit, radix: 16)
                    out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                }
            }
        }
        return out
    }
}
