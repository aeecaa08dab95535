/// Jinja's filters: their names and parameters here, what they do by what they are for.
enum JinjaFilters {
    /// A parameter list of `*` takes what comes.
    static let signatures: [String: [String]] = [
        "abs": [], "attr": ["name!"], "batch": ["linecount!", "fill_with"], "capitalize": [], "center": ["width"],
        "count": [], "d": ["default_value", "boolean"], "default": ["default_value", "boolean"],
        "dictsort": ["case_sensitive", "by", "reverse"], "e": [], "escape": [], "filesizeformat": ["binary"],
        "first": [], "float": ["default"], "forceescape": [], "format": ["*"], "from_json": [],
        "groupby": ["attribute!", "default", "case_sensitive"], "indent": ["width", "first", "blank"],
        "int": ["default", "base"], "items": [], "join": ["d", "attribute"], "last": [], "length": [], "list": [],
        "lower": [], "map": ["*"], "max": ["case_sensitive", "attribute"], "min": ["case_sensitive", "attribute"],
        "pprint": [],
        "reject": ["*"], "rejectattr": ["*"], "replace": ["old!", "new!", "count"], "random": [], "reverse": [],
        "round": ["precision", "method"], "safe": [], "select": ["*"], "selectattr": ["*"],
        "slice": ["slices!", "fill_with"], "sort": ["reverse", "case_sensitive", "attribute"], "string": [],
        "striptags": [], "sum": ["attribute", "start"], "title": [],
        "tojson": ["ensure_ascii", "indent", "separators", "sort_keys"], "trim": ["chars"],
        "truncate": ["length", "killwords", "end", "leeway"], "unique": ["case_sensitive", "attribute"], "upper": [],
        "urlencode": [], "urlize": ["trim_url_limit", "nofollow", "target", "rel", "extra_schemes"], "wordcount": [],
        "wordwrap": ["width", "break_long_words", "wrapstring", "break_on_hyphens"], "xmlattr": ["autospace"],
    ]

    static func apply(
        _ name: String, _ value: JinjaValue, _ call: JinjaCall, _ budget: JinjaBudget
    ) throws -> JinjaValue {
        try budget.step()
        guard let signature = signatures[name] else { throw TextError("the filter \"\(name)\" is not supported") }
        if signature == ["*"] { return try JinjaSelection(budget).apply(name, value, call) }
        let arguments = try call.bound(to: signature, name)
        if let found = try JinjaTextFilters(budget).apply(name, value, arguments) { return found }
        if let found = try JinjaSequenceFilters(budget).apply(name, value, arguments) { return found }
        return try JinjaValueFilters(budget).apply(name, value, arguments)
    }
}
