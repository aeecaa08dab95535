import OrderedCollections
import Text

/// What chat templates may read unless a request says otherwise (`enable_thinking`, `reasoning_effort`), by model.
public struct TemplateVariables: Sendable, Hashable {
    /// `*` is every model.
    var byModel: [String: OrderedDictionary<String, JSONValue>] = [:]

    public init() {}

    func of(_ model: String) -> OrderedDictionary<String, JSONValue> {
        (byModel["*"] ?? [:]).merging(byModel[model] ?? [:]) { $1 }
    }
}
