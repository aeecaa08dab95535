// The example of the README: asks a model one question and prints the answer as it comes.
import EbbClient

let ebb = try await EbbClient.connect()
let question = ChatMessage(role: "user", content: "Name three planets.")
for try await event in try await ebb.generate("smollm2", chat: [question]) {
    switch event {
    case .text(let piece): print(piece, terminator: "")
    case .thinking, .call: break  // only where options.separatesChannels asks for them
    case .finished(let summary): print("\n\(summary.generatedTokens) tokens, \(Int(summary.decodeRate)) a second")
    }
}
