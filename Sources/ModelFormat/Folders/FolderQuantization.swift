/// How a checkpoint's weights are quantized, as `quantization_config` says.
enum FolderQuantization: Sendable {
    case none

    init(_ settings: FolderSettings) throws {
        guard let said = try settings.settings("quantization_config") else {
            self = .none
            return
        }
        let method = try said.text("quant_method") ?? "none"
        throw said.refusal("quant_method", "is \"\(method.prefix(80))\", which is not supported")
    }

    /// The weight of a module; nil where it is not quantized.
    func matrix(_ module: String, _ tensors: CheckpointTensors) throws -> (any FolderMatrix)? { nil }
}
