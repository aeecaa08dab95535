/// Tensors that share bytes would make a large model of a small file; no format allows it.
enum Overlap {
    /// - Throws: ``FormatError`` that names two tensors which lie one over the other.
    static func demandNone(_ tensors: some Sequence<(name: String, bytes: Range<Int>)>, path: String) throws {
        let sorted = tensors.sorted { $0.bytes.lowerBound < $1.bytes.lowerBound }
        for (one, next) in zip(sorted, sorted.dropFirst()) where next.bytes.lowerBound < one.bytes.upperBound {
            throw FormatError(
                "\(path): the tensors \(one.name) and \(next.name) lie one over the other; the file is damaged")
        }
    }
}
