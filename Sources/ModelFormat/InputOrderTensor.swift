/// A vector beside a matrix, `NAME.input_order` [k], which says what value of an input each of the matrix' columns is for: in
/// a checkpoint of GPTQ whose columns come in an order of their own (`desc_act`), those of a group are put side by side. Of a
/// matrix that holds several weights of different orders it has one for each, [weights * k].
package enum InputOrderTensor {
    package static let suffix = ".input_order"

    /// Places up to this are whole numbers of f32, which vectors are made of.
    package static let most = 1 << 24

    /// The places as whole numbers; nil where they are no permutation of all inputs.
    package static func places(_ values: UnsafeBufferPointer<Float>) -> [UInt32]? {
        guard values.count <= most else { return nil }
        var isTaken = [Bool](repeating: false, count: values.count)
        var places: [UInt32] = []
        places.reserveCapacity(values.count)
        for value in values {
            guard let place = UInt32(exactly: value), place < values.count, !isTaken[Int(place)] else { return nil }
            isTaken[Int(place)] = true
            places.append(place)
        }
        return places
    }
}
