import ModelFormat
import Text

/// The members of a settings file, by name and type; nothing in it is passed over.
struct SettingsReader {
    private let name: String
    private let machine: Int
    private let members: [String: JSONValue]
    private var known: [String] = []

    /// - Throws: ``FormatError`` for what is no JSON object.
    init(_ json: [UInt8], name: String, machine: Int) throws {
        (self.name, self.machine) = (name, machine)
        guard let text = String(validating: json, as: UTF8.self) else { throw FormatError("\(name) is not UTF-8") }
        do {
            guard case .object(let members) = try JSONValue(parsing: text, uniqueKeys: true) else {
                throw FormatError("\(name) is no JSON object: {\"memoryBudget\": \"25%\", …} is expected")
            }
            self.members = Dictionary(members.map { ($0, $1) }) { $1 }
        } catch let error as TextError {
            throw FormatError("\(name) is no readable settings file: \(error)")
        }
    }

    /// `"512M"`, `"1.5 GB"`, `"25 %"`.
    mutating func size(_ key: String, into value: inout Int, _ possible: ClosedRange<Int>) throws {
        guard let member = take(key) else { return }
        guard case .string(let text) = member else {
            throw wrong(key, member, "a size is expected, in quotes: \"512M\", \"2G\", \"25%\"")
        }
        guard let bytes = Self.bytes(text, of: machine) else {
            throw wrong(key, member, "that is no size: \"512M\", \"2G\", \"25%\" (at most 100%)")
        }
        guard possible.contains(bytes) else {
            let range = "\(Self.readable(possible.lowerBound)) to \(Self.readable(possible.upperBound))"
            let why = possible.upperBound == machine ? ", which is all the memory of this machine" : ""
            throw wrong(key, member, "\(range) are possible\(why)")
        }
        value = bytes
    }

    /// A number of seconds, fractions too.
    mutating func seconds(_ key: String, into value: inout Double, _ possible: ClosedRange<Double>) throws {
        guard let member = take(key) else { return }
        let number: Double? =
            switch member {
            case .int(let whole): Double(whole)
            case .double(let number): number
            default: nil
            }
        guard let number, possible.contains(number) else {
            let range = "\(Self.readable(possible.lowerBound)) to \(Self.readable(possible.upperBound))"
            throw wrong(key, member, "a number of seconds is expected, \(range)")
        }
        value = number
    }

    /// A whole number.
    mutating func count(_ key: String, into value: inout Int, _ possible: ClosedRange<Int>) throws {
        guard let member = take(key) else { return }
        guard case .int(let number) = member, possible.contains(number) else {
            throw wrong(key, member, "a whole number is expected, \(possible.lowerBound) to \(possible.upperBound)")
        }
        value = number
    }

    /// `{"qwen": {"enable_thinking": false}}`.
    mutating func variables(_ key: String, into value: inout TemplateVariables) throws {
        guard let member = take(key) else { return }
        guard case .object(let models) = member else {
            throw wrong(key, member, "an object is expected: {\"a model's name, or *\": {\"enable_thinking\": false}}")
        }
        for (model, member) in models {
            guard case .object(let variables) = member else {
                throw wrong("\(key), \"\(model.prefix(64))\",", member, "an object of variables is expected")
            }
            if let own = variables.keys.first(where: ChatTemplate.ownVariables.contains) {
                throw FormatError("\(name): \(key) cannot say \"\(own)\": requests and models do")
            }
            value.byModel[model] = variables
        }
    }

    /// - Throws: ``FormatError`` for a key that nobody has asked for.
    func finish() throws {
        guard let key = members.keys.filter({ !known.contains($0) }).min() else { return }
        let nearest = known.min { Self.distance($0, key) < Self.distance($1, key) }
        if let nearest, Self.distance(nearest, key) <= max(2, nearest.utf8.count / 3) {
            throw FormatError("\(name): \"\(key.prefix(64))\" is no setting; \"\(nearest)\" is one")
        }
        throw FormatError("\(name): \"\(key.prefix(64))\" is no setting; these are: \(known.joined(separator: ", "))")
    }

    private mutating func take(_ key: String) -> JSONValue? {
        known.append(key)
        return members[key]
    }

    private func wrong(_ key: String, _ value: JSONValue, _ why: String) -> FormatError {
        let shown =
            switch value {
            case .null: "null"
            case .bool(let bool): "\(bool)"
            case .int(let int): "\(int)"
            case .double(let double): "\(double)"
            case .string(let text): "\"\(text.prefix(64))\""
            case .array: "a list"
            case .object: "an object"
            }
        return FormatError("\(name): \(key) is \(shown); \(why)")
    }

    // MARK: Sizes

    private static let units: [String: Double] = [
        "": 1, "b": 1, "k": 0x1p10, "m": 0x1p20, "g": 0x1p30, "t": 0x1p40, "kib": 0x1p10, "mib": 0x1p20,
        "gib": 0x1p30, "tib": 0x1p40, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
    ]

    /// `512M` and `512 MiB` (binary, as memory is sold), `1.5GB` (decimal), `1000000`, `25 %` of a whole.
    static func bytes(_ text: String, of whole: Int) -> Int? {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let unit = text.dropFirst(digits.count).trimmingPrefix(" ").lowercased()
        guard let number = Double(digits), number.isFinite else { return nil }
        if unit == "%" { return number <= 100 ? Int(min(Double(whole) / 100 * number, 0x1p62)) : nil }
        guard let factor = units[unit], number * factor < 0x1p62 else { return nil }
        return Int(number * factor)
    }

    /// Rounded down, so that what an error names is possible: `23.5G`.
    private static func readable(_ bytes: Int) -> String {
        let units: [(String, Int)] = [("G", 30), ("M", 20), ("K", 10)]
        guard let (unit, shift) = units.first(where: { bytes >= 1 << $0.1 }) else { return "\(bytes)" }
        return readable((Double(bytes) / Double(1 << shift) * 10).rounded(.down) / 10) + unit
    }

    private static func readable(_ number: Double) -> String {
        number == number.rounded() ? "\(Int(clamping: Int64(number)))" : "\(number)"
    }

    // MARK: Names

    /// How many letters must be put in, left out or replaced to make one of the other (Levenshtein), without regard to
    /// case. Of a key that is far too long only the beginning counts.
    private static func distance(_ a: String, _ b: String) -> Int {
        let (a, b) = (Array(a.lowercased().utf8.prefix(64)), Array(b.lowercased().utf8.prefix(64)))
        var row = Array(0...b.count)
        for (i, letter) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, other) in b.enumerated() {
                let replaced = diagonal + (letter == other ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
            }
        }
        return row[b.count]
    }
}
