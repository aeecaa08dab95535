import ArgumentParser

/// A size as people write it: `30MB`, `1.5GiB`, `2G` (1024³, as memory is sold), `30000000`.
struct ByteSize: ExpressibleByArgument {
    let bytes: Int

    init?(argument: String) {
        let digits = argument.prefix { $0.isNumber || $0 == "." }
        let units: [String: Double] = [
            "": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 1024, "MIB": 1_048_576, "GIB": 1_073_741_824,
            "K": 1024, "M": 1_048_576, "G": 1_073_741_824,
        ]
        let unit = argument.dropFirst(digits.count).uppercased().trimmingPrefix(" ")
        guard let number = Double(digits), let factor = units[String(unit)], number > 0, number * factor < 1e15 else {
            return nil
        }
        bytes = Int(number * factor)
    }
}
