/// JSON of any form, for files whose every key is looked at.
enum JSONNode: Sendable, JSONTree {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSONNode])
    case object(JSONObject)

    /// A whole number that programs with Double for all numbers know exactly, also where it is written `1.0`.
    var int: Int? { number.flatMap { $0.magnitude < 0x1p53 ? Int(exactly: $0) : nil } }
    var number: Double? {
        switch self {
        case .int(let int): Double(int)
        case .double(let double): double
        default: nil
        }
    }
    var bool: Bool? { if case .bool(let flag) = self { flag } else { nil } }
    var string: String? { if case .string(let text) = self { text } else { nil } }
    var array: [JSONNode]? { if case .array(let items) = self { items } else { nil } }
    var object: JSONObject? { if case .object(let members) = self { members } else { nil } }
    var isNull: Bool { if case .null = self { true } else { false } }
}

/// The members of a JSON object, in their order. Keys are told apart by their bytes: vocabularies have `é` both as one
/// character and as two, which Swift's strings, and so JSONSerialization's dictionaries, take for equal.
struct JSONObject: Sendable, Sequence, JSONObjectTree {
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

    mutating func add(_ key: String, _ value: JSONNode) -> Bool {
        guard let place = places.updateValue(members.count, forKey: Key(text: key)) else {
            members.append((key, value))
            return true
        }
        places[Key(text: key)] = place
        members[place].value = value
        return false
    }

    func makeIterator() -> IndexingIterator<[(key: String, value: JSONNode)]> { members.makeIterator() }
}
