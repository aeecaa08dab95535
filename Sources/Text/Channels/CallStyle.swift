/// How a model marks calls of tools, and what it writes between the marks.
struct CallStyle: Sendable, Equatable {
    var opens: [String]
    /// What ends the calls; without one they end with their JSON value.
    var closes: [String] = []
    /// What ends one call of several within the marks.
    var callEnd: String?
    var grammar: CallGrammar
    /// Control tokens that belong to the text of a call beside the marks that the grammar names.
    var inner: [String] = []
    /// Whether calls are also JSON objects that stand alone, without a mark.
    var bare = Bare.never
    /// What in a template says that a model writes such calls where the template itself never does.
    var evidence: [String] = []

    enum Bare: Sendable, Equatable {
        case never, always
        /// Some models of the family leave the marks away: an object is a call if it names a tool that was offered.
        case ofOfferedTools
    }

    var endsWithValue: Bool { closes.isEmpty }
    /// The JSON value may be an array of calls.
    var isArray: Bool { grammar == .object || grammar == .keyed }
}

/// What stands between the marks of calls.
enum CallGrammar: Sendable, Equatable {
    /// `{"name": …, "arguments": {…}}`, one, several or an array of them. Other names that models use for these keys
    /// are known too.
    case object
    /// `{"name": {…}}`.
    case keyed
    /// A name, then a JSON object.
    case named(NameMarks)
    /// XML-like: a name, and values in marks of their own.
    case tagged(TagMarks)
    /// As ``tagged``, but every value is a tree of tags, each behind this mark.
    case nested(String)
    /// `[f(a=1, b='x'), g()]`.
    case python
    /// `call:f{a:1,b:<|"|>x<|"|>}`.
    case gemma

    /// Where JSON objects end the calls.
    var isJSON: Bool {
        switch self {
        case .object, .keyed, .named: true
        default: false
        }
    }

    /// Marks within which no other mark counts, but the second.
    var protections: [Protection] {
        switch self {
        case .object, .keyed, .named: [Protection("\"", "\"", isQuote: true)]
        case .python: [Protection("\"", "\"", isQuote: true), Protection("'", "'", isQuote: true)]
        case .gemma: [Protection("<|\"|>", "<|\"|>")]
        case .tagged(let marks): [Protection(marks.keyOpen, marks.valueClose)]
        case .nested: []
        }
    }

    /// Control tokens that it reads.
    var inner: [String] {
        switch self {
        case .named(let marks): [marks.nameOpen, marks.nameClose, marks.idOpen, marks.idClose]
        case .tagged(let marks): marks.all
        case .nested(let mark): [mark]
        case .gemma: ["<|\"|>"]
        case .object, .keyed, .python: []
        }
    }
}

/// A stretch of a call that only its own end ends.
struct Protection: Sendable, Equatable {
    let open: String
    let close: String
    /// `\` escapes, and a line's end shows that the quote was never closed.
    let isQuote: Bool

    init(_ open: String, _ close: String, isQuote: Bool = false) {
        self.open = open
        self.close = close
        self.isQuote = isQuote
    }
}

/// Where a name and an ID stand before a JSON object. An empty opening mark is the beginning, an empty closing one the end.
struct NameMarks: Sendable, Equatable {
    var nameOpen = ""
    var nameClose = ""
    var idOpen = ""
    var idClose = ""
    /// The name is written as `functions.NAME:INDEX`, which is the ID.
    var isNumbered = false
}

/// The marks of a call in tags. An empty `valueOpen` means that the value follows its key.
struct TagMarks: Sendable, Equatable {
    var nameOpen = ""
    var nameCloses: [String]
    var keyOpen: String
    var keyClose: String
    var valueOpen = ""
    var valueClose: String
    /// Stands between key and value where the value is a string.
    var saysString = ""
    /// A line's end after the opening and before the closing mark of a value is not part of it.
    var trimsLines = false

    var all: [String] { [nameOpen, keyOpen, keyClose, valueOpen, valueClose] + nameCloses }
}
