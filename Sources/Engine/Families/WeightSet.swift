/// The matrices of a model, in memory that does not move.
final class WeightSet {
    /// A matrix, or some channels of one that holds several weights.
    struct Entry {
        let ref: LinearRef
        /// The layer that it belongs to, the output head being the one after the last, or -1; and which of its experts.
        let layer: Int
        let expert: Int?
        /// The tensor's name, and the first of its channels.
        let name: String
        let firstChannel: Int
    }

    private(set) var linears: [Entry] = []
    private var owned: [UnsafeMutablePointer<Float>] = []
    private var ownedPlaces: [UnsafeMutablePointer<UInt32>] = []
    private var orders: [[UInt32]: InputOrder] = [:]

    /// Stands for vectors of a model that is only checked.
    nonisolated(unsafe) static let nothing: VectorRef = {
        let zero = UnsafeMutablePointer<Float>.allocate(capacity: 1)
        zero.initialize(to: 0)
        return VectorRef(zero)
    }()

    deinit {
        for linear in linears { linear.ref.deallocate() }
        for memory in owned { memory.deallocate() }
        for memory in ownedPlaces { memory.deallocate() }
    }

    /// Whether some matrix' columns have an order of their own.
    var hasOrders: Bool { !orders.isEmpty }

    /// An order of columns; the same for equal ones.
    func order(_ places: [UInt32]) -> InputOrder {
        if let known = orders[places] { return known }
        let memory = UnsafeMutablePointer<UInt32>.allocate(capacity: places.count)
        memory.initialize(from: places, count: places.count)
        ownedPlaces.append(memory)
        let order = InputOrder(memory)
        orders[places] = order
        return order
    }

    func add(
        _ linear: Linear, layer: Int, expert: Int? = nil, name: String = "", firstChannel: Int = 0
    ) -> LinearRef {
        let ref = LinearRef.allocate(capacity: 1)
        ref.initialize(to: linear)
        ref.pointee.ordinal = linears.count
        linears.append(Entry(ref: ref, layer: layer, expert: expert, name: name, firstChannel: firstChannel))
        return ref
    }

    /// 1 / (scale * smoothing) for each of `count` input channels.
    func multipliers(_ scale: Float, _ smoothing: VectorRef?, count: Int) -> UnsafePointer<Float> {
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: count)
        owned.append(memory)
        for i in 0..<count { memory[i] = 1 / (scale * (smoothing?[i] ?? 1)) }
        return UnsafePointer(memory)
    }

    /// What lies in the tensor of that name, in the order of its channels.
    func parts(of name: String) -> [Entry] { linears.filter { $0.name == name } }

    func name(of ref: LinearRef) -> String { linears.first { $0.ref == ref }?.name ?? "" }
}
