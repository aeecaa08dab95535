/// A weight, and where its product with an input's rows goes, [rows][outputs].
struct Projection {
    let weight: LinearRef
    let out: UnsafeMutablePointer<Float>
}

extension LinearRef {
    func to(_ out: UnsafeMutablePointer<Float>) -> Projection { Projection(weight: self, out: out) }
}
