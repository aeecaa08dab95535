/// MNN's `--weightQuantAsymmetric` takes an optional value, which a flag cannot have.
enum MNNSpelling {
    static func rewritten(_ arguments: [String]) -> [String] {
        var out: [String] = []
        var at = 0
        while at < arguments.count {
            let parts = arguments[at].split(separator: "=", maxSplits: 1).map(String.init)
            at += 1
            guard parts.first == "--weightQuantAsymmetric" else {
                out.append(arguments[at - 1])
                continue
            }
            var value = parts.count == 2 ? parts[1] : nil
            if value == nil, at < arguments.count, ["true", "false", "0", "1"].contains(arguments[at]) {
                value = arguments[at]
                at += 1
            }
            out.append(["false", "0"].contains(value ?? "true") ? "--symmetric" : "--asymmetric")
        }
        return out
    }
}
