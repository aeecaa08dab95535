import NIOCore
import NIOPosix
import Synchronization

/// Whether the parts that serve get on. Each is asked to do something small, and looked at later: a part that is busy
/// moves, one that hangs does not.
public final class Liveness: Sendable {
    /// A part that can hang.
    public struct Part: Sendable {
        public let name: String
        /// Counts what it does.
        let progress: @Sendable () -> Int
        /// Asks it to do something, so that an idle part counts on.
        let poke: @Sendable () -> Void

        public init(name: String, progress: @escaping @Sendable () -> Int, poke: @escaping @Sendable () -> Void) {
            (self.name, self.progress, self.poke) = (name, progress, poke)
        }

        /// A part that only has to do what it is asked.
        public init(name: String, _ perform: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void) {
            let counter = Counter()
            self.init(
                name: name, progress: { counter.value.load(ordering: .relaxed) },
                poke: { perform { _ = counter.value.add(1, ordering: .relaxed) } })
        }
    }

    private final class Counter: Sendable { let value = Atomic<Int>(0) }

    private struct Seen {
        var progress: Int
        var at: Double
    }

    private let parts: [Part]
    private let seen: Mutex<[Seen]>

    public init(_ parts: [Part], now: Double) {
        self.parts = parts
        seen = Mutex(parts.map { Seen(progress: $0.progress(), at: now) })
        for part in parts { part.poke() }
    }

    /// Looks, and asks anew.
    /// - Returns: names of the parts that have not moved for `limit` seconds.
    public func hung(now: Double, limit: Double) -> [String] {
        let hung = seen.withLock { seen in
            var hung: [String] = []
            for (index, part) in parts.enumerated() {
                let progress = part.progress()
                if progress != seen[index].progress {
                    seen[index] = Seen(progress: progress, at: now)
                } else if now - seen[index].at >= limit {
                    hung.append(part.name)
                }
            }
            return hung
        }
        for part in parts { part.poke() }
        return hung
    }

    /// The event loops and the tasks' own threads.
    static func common() -> [Part] {
        var parts = [Part(name: "tasks") { done in Task.detached { done() } }]
        for (index, loop) in NIOSingletons.posixEventLoopGroup.makeIterator().enumerated() {
            parts.append(Part(name: "event loop \(index)") { done in loop.execute { done() } })
        }
        return parts
    }
}
