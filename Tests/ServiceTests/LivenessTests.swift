import Dispatch
import Service
import Synchronization
import Testing

@Suite("Whether the parts of the daemon get on")
struct LivenessTests {
    @Test("A part that does what it is asked is alive, however long between two looks")
    func alive() {
        let liveness = Liveness([Liveness.Part(name: "part") { done in done() }], now: 0)
        #expect(liveness.hung(now: 100, limit: 10) == [])
        #expect(liveness.hung(now: 200, limit: 10) == [])
    }

    @Test("A part that does nothing is hung once the limit has passed, and named; the others are not")
    func hung() {
        let liveness = Liveness(
            [Liveness.Part(name: "good") { done in done() }, Liveness.Part(name: "bad") { _ in }], now: 0)
        #expect(liveness.hung(now: 9, limit: 10) == [])
        #expect(liveness.hung(now: 10, limit: 10) == ["bad"])
    }

    @Test("A busy part, which counts but does not come to what it is asked, is alive")
    func busy() {
        let part = Liveness.Part(
            name: "busy", progress: { Self.steps.add(1, ordering: .relaxed).newValue }, poke: {})
        let liveness = Liveness([part], now: 0)
        #expect(liveness.hung(now: 50, limit: 10) == [])
    }

    private static let steps = Atomic<Int>(0)

    @Test("A queue that is blocked is hung, and alive again when it goes on")
    func blocked() {
        let queue = DispatchQueue(label: "test")
        let (begun, gate) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        queue.async {
            begun.signal()
            gate.wait()
        }
        begun.wait()
        let liveness = Liveness([Liveness.Part(name: "queue") { done in queue.async { done() } }], now: 0)
        #expect(liveness.hung(now: 11, limit: 10) == ["queue"])
        gate.signal()
        queue.sync {}
        #expect(liveness.hung(now: 12, limit: 10) == [])
    }
}
