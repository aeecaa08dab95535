import ArgumentParser
import EbbClient
import EbbProtocol

/// Which adapters are applied, and how strongly.
struct AdapterOptions: ParsableArguments {
    @Option(
        name: .customLong("adapter"),
        help: ArgumentHelp(
            "Apply a LoRA adapter that was imported, at a strength (default: 1). It may be given several times.",
            valueName: "name[=strength]"))
    var list: [Adapter] = []

    func validate() throws {
        let most = EbbProtocol.maxAdapterStrength
        guard list.count <= EbbProtocol.maxAdapters else {
            throw ValidationError("--adapter may be given \(EbbProtocol.maxAdapters) times at most.")
        }
        guard list.allSatisfy({ (-most...most).contains($0.strength) }) else {
            throw ValidationError("--adapter takes strengths of -\(Int(most)) to \(Int(most)).")
        }
        guard Set(list.map(\.name)).count == list.count else {
            throw ValidationError("--adapter names an adapter twice: add its strengths up.")
        }
    }
}

extension Adapter: ExpressibleByArgument {
    public init?(argument: String) {
        let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = parts.first, !name.isEmpty else { return nil }
        guard parts.count > 1 else {
            self.init(String(name))
            return
        }
        guard let strength = Float(parts[1]), strength.isFinite else { return nil }
        self.init(String(name), strength: strength)
    }
}
