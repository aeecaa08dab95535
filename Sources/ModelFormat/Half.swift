import CKernels

extension Float {
    /// The value of an IEEE half with these bits.
    public init(half bits: UInt16) { self = ebb_f16_to_f32(bits) }
}
