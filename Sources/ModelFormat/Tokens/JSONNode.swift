/// JSON of any form, for files whose every key is looked at.
enum JSONNode: Sendable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSONNode])
    case object(JSONObject)

    var int: Int? { if case .int(let int) = self { int } else { nil } }
    var number: Double? { if case .double(let double) = self { double } else { int.map(Double.init) } }
    var bool: Bool? { if case .bool(let flag) = self { flag } else { nil } }
    var string: String? { if case .string(let text) = self { text } else { nil } }
    var array: [JSONNode]? { if case .array(let items) = self { items } else { nil } }
    var object: JSONObject? { if case .object(let members) = self { members } else { nil } }
    var isNull: Bool { if case .null = self { true } else { false } }
}

/// The members of a JSON object, in their order; keys are equal where their bytes are.
struct JSONObject: Sendable, Sequence {
    private struct Key: Hashable {
        let text: String

        static func == (a: Key, b: Key) -> Bool { a.text.utf8.elementsEqual(b.text.utf8) }

        func hash(into hasher: inout Hasher) {
            var text = text
            text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        }
    }

    private var members: [(key: String, value: JSONNode)] = []
    private var places: [Key: Int] = [:]

    var count: Int { members.count }
    var keys: [String] { members.map(\.key) }

    subscript(key: String) -> JSONNode? { places[Key(text: key)].map { members[$0].value } }

    /// - Returns: false where the key is there already.
    mutating func add(_ key: String, _ value: JSONNode) -> Bool {
        guard places.updateValue(members.count, forKey: Key(text: key)) == nil else { return false }
        members.append((key, value))
        return true
    }

    func makeIterator() -> IndexingIterator<[(key: String, value: JSONNode)]> { members.makeIterator() }
}
