import Engine

/// Whether a request's KV cache can be promised: pure arithmetic of blocks and bytes.
///
/// No connection holds more than three quarters of what there is, and no user more than seven eighths, unless they hold
/// nothing yet: who comes next always finds some.
struct KVAdmission {
    /// What is held by a running generation.
    struct Holder {
        let origin: RequestOrigin
        let bytes: Int
    }

    let holders: [Holder]
    /// Bytes that can be held in all.
    let room: Int

    /// Whether a request may hold so many bytes beside what is held.
    func isWithinShare(_ bytes: Int, of origin: RequestOrigin) -> Bool {
        let users = holders.filter { $0.origin.uid == origin.uid }
        return Self.fits(bytes, users, room / 8 * 7)
            && Self.fits(bytes, users.filter { $0.origin.connection == origin.connection }, room / 4 * 3)
    }

    private static func fits(_ bytes: Int, _ holders: [Holder], _ share: Int) -> Bool {
        holders.isEmpty || holders.reduce(0) { $0 + $1.bytes } <= share - bytes
    }
}
