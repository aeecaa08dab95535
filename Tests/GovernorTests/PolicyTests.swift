import Governor
import Testing

@Suite("The policy")
struct PolicyTests {
    private static let mib = 1 << 20
    private let policy = Policy(budget: 100 * mib, reserve: 50 * mib, calmBeforeGrowth: 10)

    private func model(_ wish: ModelState.Wish = .auto, layers: Int = 10, expanded: Int = 0, active: Bool = false)
        -> ModelState
    {
        ModelState(
            name: "m", wish: wish, layerBytes: Array(repeating: 5 * Self.mib, count: layers),
            expanded: (0..<layers).map { $0 < expanded }, active: active)
    }

    private func count(
        _ models: [ModelState], level: PressureLevel = .nominal, calm: Double = 60, peak: Int = 0,
        available: Int = 1000 * mib
    ) -> [Int] {
        policy.wanted(level: level, calm: calm, peak: peak, available: available, models: models).map {
            $0.count { $0 }
        }
    }

    @Test("With room for all layers, all are expanded")
    func expandsAll() { #expect(count([model()]) == [10]) }

    @Test("With memory for 60 % of the layers, 60 % are expanded")
    func partly() { #expect(count([model()], available: (50 + 30) * Self.mib) == [6]) }

    @Test("Nothing grows before it has been calm for long enough")
    func waits() {
        #expect(count([model()], calm: 9) == [0])
        #expect(count([model(expanded: 4)], calm: 0) == [4])
    }

    @Test("At critical nothing stays expanded, at warning half of it")
    func shrinks() {
        #expect(count([model(expanded: 10)], level: .critical, peak: 50 * Self.mib) == [0])
        #expect(count([model(expanded: 10)], level: .warning, peak: 50 * Self.mib) == [5])
        // Asked again at the same level, it stays at half.
        #expect(count([model(expanded: 5)], level: .warning, peak: 50 * Self.mib) == [5])
    }

    @Test("An idle model gives way before an active one")
    func idleFirst() {
        let models = [model(expanded: 10), model(expanded: 10, active: true)]
        #expect(count(models, level: .warning, peak: 100 * Self.mib) == [0, 10])
    }

    @Test("Pins hold at every level", arguments: PressureLevel.allCases)
    func pins(level: PressureLevel) {
        #expect(count([model(.dequantized), model(.memoryLow, expanded: 3)], level: level, available: 0) == [10, 0])
    }

    /// Some thousand random situations.
    private func situations(_ body: (PressureLevel, Double, Int, Int, [ModelState]) -> Void) {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            let models = (0..<Int.random(in: 0...4, using: &random)).map { _ in
                let layers = Int.random(in: 1...20, using: &random)
                return ModelState(
                    name: "m", wish: [.auto, .auto, .memoryLow].randomElement(using: &random) ?? .auto,
                    layerBytes: (0..<layers).map { _ in Int.random(in: 0...(20 * Self.mib), using: &random) },
                    expanded: (0..<layers).map { _ in Bool.random(using: &random) }, active: Bool.random(using: &random)
                )
            }
            body(
                PressureLevel.allCases.randomElement(using: &random) ?? .nominal,
                Double.random(in: 0...30, using: &random),
                Int.random(in: 0...(200 * Self.mib), using: &random),
                Int.random(in: 0...(300 * Self.mib), using: &random), models)
        }
    }

    private func bytes(_ models: [ModelState], _ wanted: [[Bool]]) -> Int {
        zip(models, wanted).reduce(0) { $0 + zip($1.0.layerBytes, $1.1).reduce(0) { $0 + ($1.1 ? $1.0 : 0) } }
    }

    @Test("It never goes over the budget")
    func neverOverBudget() {
        situations { level, calm, peak, available, models in
            let wanted = policy.wanted(level: level, calm: calm, peak: peak, available: available, models: models)
            #expect(bytes(models, wanted) <= policy.budget)
        }
    }

    @Test("A higher level never wants more bytes")
    func monotoneInLevel() {
        situations { _, calm, _, available, models in
            let inUse = bytes(models, models.map(\.expanded))
            let wanted = PressureLevel.allCases.map {
                bytes(models, policy.wanted(level: $0, calm: calm, peak: inUse, available: available, models: models))
            }
            #expect(wanted[1] <= max(wanted[0], inUse) && wanted[2] == 0)
        }
    }

    @Test("At a level that is not nominal nothing new is expanded")
    func noGrowthUnderPressure() {
        situations { level, calm, peak, available, models in
            guard level > .nominal else { return }
            let wanted = policy.wanted(level: level, calm: calm, peak: peak, available: available, models: models)
            for (model, layers) in zip(models, wanted) {
                for (was, will) in zip(model.expanded, layers) { #expect(was || !will) }
            }
        }
    }

    @Test("What it wants, once there, it wants again")
    func settles() {
        situations { level, calm, peak, available, models in
            let first = policy.wanted(level: level, calm: calm, peak: peak, available: available, models: models)
            var settled = models
            for index in settled.indices { settled[index].expanded = first[index] }
            let change = bytes(models, first) - bytes(models, models.map(\.expanded))
            let again = policy.wanted(
                level: level, calm: calm, peak: peak, available: available - change, models: settled)
            for (a, b) in zip(first, again) {
                for (was, will) in zip(a, b) { #expect(was == will || (level == .nominal && !was)) }
            }
        }
    }
}
