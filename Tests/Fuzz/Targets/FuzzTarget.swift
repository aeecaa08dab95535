import Foundation

/// Something that reads what others have written, as a function of bytes. It may refuse them, and must do nothing else
/// that is noticed: no trap, no hang, no memory beyond its bounds.
public struct FuzzTarget: Sendable {
    public let name: String
    /// The longest input that is tried, in bytes.
    public let longest: Int
    /// Inputs to begin with: valid ones, a few KB each.
    public let seeds: @Sendable () throws -> [[UInt8]]
    /// Reads one input. Errors are what is expected of it.
    public let run: @Sendable ([UInt8]) throws -> Void

    init(
        _ name: String, longest: Int = 4096, seeds: @escaping @Sendable () throws -> [[UInt8]],
        run: @escaping @Sendable ([UInt8]) throws -> Void
    ) {
        (self.name, self.longest, self.seeds, self.run) = (name, longest, seeds, run)
    }

    public static let all: [FuzzTarget] = [
        .frames, .envelopes, .gguf, .safetensors, .folder, .tokenizer, .container, .text, .parking, .template, .json,
        .parkingFile, .lines, .settings, .channels, .adapter,
    ]

    public static func named(_ name: String) -> FuzzTarget? { all.first { $0.name == name } }
}

/// An input that is several texts: they are separated by zeros, which none of them needs.
func parts(_ bytes: [UInt8]) -> [String] {
    bytes.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
}

func joined(_ parts: String...) -> [UInt8] { Array(parts.map { Array($0.utf8) }.joined(separator: [0])) }

/// A promise that was not kept ends the program, so that the input is kept.
func demand(_ holds: Bool, _ promise: @autoclosure () -> String) {
    if holds { return }
    FileHandle.standardError.write(Data("broken promise: \(promise())\n".utf8))
    abort()
}
