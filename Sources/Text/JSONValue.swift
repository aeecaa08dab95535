import ModelFormat
import OrderedCollections

/// JSON whose objects keep the order of their keys, as templates print them.
public enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object(OrderedDictionary<String, JSONValue>)

    /// Values in a document: a small one takes up to 200 bytes of memory for each of its own seven.
    private static let valueLimit = 1 << 17

    /// - Parameter uniqueKeys: an object that says something twice is an error; otherwise the last counts, as RFC 8259
    ///   leaves it open.
    /// - Throws: ``TextError`` that says where the text stops being JSON (RFC 8259), or that it nests too deeply.
    public init(parsing text: String, uniqueKeys: Bool = false) throws {
        do {
            self = try JSONReader.read(
                Array(text.utf8), uniqueKeys: uniqueKeys, depthLimit: 128, valueLimit: Self.valueLimit)
        } catch { throw TextError(error.description) }
    }

    public subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { return members[key] }
        return nil
    }

    public var string: String? {
        if case .string(let text) = self { return text }
        return nil
    }
}

extension JSONValue: JSONTree {
    public typealias Object = OrderedDictionary<String, JSONValue>
}

extension OrderedDictionary: JSONObjectTree where Key == String {
    public mutating func add(_ key: String, _ value: Value) -> Bool { updateValue(value, forKey: key) == nil }
}
