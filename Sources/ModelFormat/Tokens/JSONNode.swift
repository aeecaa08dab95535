import Foundation

/// JSON of any form, for files whose every key is looked at.
enum JSONNode: Sendable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case array([JSONNode])
    case object([String: JSONNode])

    /// What JSONSerialization has read: a Decodable would try the types of a quarter of a million values one by one.
    init(_ value: Any) {
        switch value {
        case let text as String: self = .string(text)
        case let number as NSNumber: self = Self.number(number)
        case let items as [Any]: self = .array(items.map(JSONNode.init))
        case let members as [String: Any]: self = .object(members.mapValues(JSONNode.init))
        default: self = .null
        }
    }

    private static func number(_ number: NSNumber) -> JSONNode {
        // Foundation says `c` of true and false alone.
        if number.objCType.pointee == CChar(UInt8(ascii: "c")) { return .bool(number.boolValue) }
        return Int(exactly: number.doubleValue) != nil && abs(number.doubleValue) < 0x1p53
            ? .int(number.intValue) : .double(number.doubleValue)
    }

    var int: Int? { if case .int(let int) = self { int } else { nil } }
    var number: Double? { if case .double(let double) = self { double } else { int.map(Double.init) } }
    var bool: Bool? { if case .bool(let flag) = self { flag } else { nil } }
    var string: String? { if case .string(let text) = self { text } else { nil } }
    var array: [JSONNode]? { if case .array(let items) = self { items } else { nil } }
    var object: [String: JSONNode]? { if case .object(let members) = self { members } else { nil } }
    var isNull: Bool { if case .null = self { true } else { false } }
}
