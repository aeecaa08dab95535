import Synchronization

/// Places for connections: so many in all, and so many for a user.
final class Seats: Sendable {
    private struct Taken {
        var all = 0
        var ofUser: [UInt32: Int] = [:]
    }

    private let total: Int
    private let perUser: Int
    private let taken = Mutex(Taken())

    init(total: Int, perUser: Int) {
        (self.total, self.perUser) = (total, perUser)
    }

    /// A place, until it is let go.
    final class Seat: Sendable {
        private let seats: Seats
        private let uid: UInt32

        fileprivate init(_ seats: Seats, _ uid: UInt32) {
            (self.seats, self.uid) = (seats, uid)
        }

        deinit { seats.leave(uid) }
    }

    /// - Throws: ``ServiceError`` (OVERLOADED) where there is none.
    func take(_ uid: UInt32) throws -> Seat {
        let (total, perUser) = (total, perUser)
        try taken.withLock { taken in
            let own = taken.ofUser[uid, default: 0]
            guard own < perUser else {
                throw ServiceError(
                    .overloaded,
                    "user \(uid) has \(own) connections, which is the most for a user: close some, or send more over one",
                    retryAfter: 1000)
            }
            guard taken.all < total else {
                throw ServiceError(
                    .overloaded, "\(total) connections are open, which is the most", retryAfter: 1000)
            }
            taken.all += 1
            taken.ofUser[uid] = own + 1
        }
        return Seat(self, uid)
    }

    private func leave(_ uid: UInt32) {
        taken.withLock { taken in
            taken.all -= 1
            let rest = taken.ofUser[uid, default: 1] - 1
            taken.ofUser[uid] = rest > 0 ? rest : nil
        }
    }
}
