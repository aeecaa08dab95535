/// JSON of any form, for files whose every key is looked at.
enum JSONNode: Decodable, Sendable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSONNode])
    case object([String: JSONNode])

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if value.decodeNil() {
            self = .null
        } else if let int = try? value.decode(Int.self) {  // first: vocabularies are tens of thousands of these
            self = .int(int)
        } else if let text = try? value.decode(String.self) {
            self = .string(text)
        } else if let flag = try? value.decode(Bool.self) {
            self = .bool(flag)
        } else if let double = try? value.decode(Double.self) {
            self = .double(double)
        } else if let items = try? value.decode([JSONNode].self) {
            self = .array(items)
        } else {
            self = .object(try value.decode([String: JSONNode].self))
        }
    }

    var int: Int? { if case .int(let int) = self { int } else { nil } }
    var number: Double? { if case .double(let double) = self { double } else { int.map(Double.init) } }
    var bool: Bool? { if case .bool(let flag) = self { flag } else { nil } }
    var string: String? { if case .string(let text) = self { text } else { nil } }
    var array: [JSONNode]? { if case .array(let items) = self { items } else { nil } }
    var object: [String: JSONNode]? { if case .object(let members) = self { members } else { nil } }
    var isNull: Bool { if case .null = self { true } else { false } }
}
