import Engine

/// The expansion that is being made, in pieces between steps.
struct Growth {
    let model: HostedModel
    private let work: UnitExpansion
    /// Its bytes in the ledger, until they are in place.
    private let reservation: Ledger.Reservation?

    var unit: Int { work.unit }

    /// nil where there is no room for it (what is pinned needs none), or the system refuses the memory: the next tick of
    /// the governor tries again.
    init?(_ model: HostedModel, unit: Int, _ ledger: Ledger) {
        reservation = ledger.reserve(.expanding, model.model.expandedBytes(unit))
        guard reservation != nil || model.wish == .dequantized, let work = try? model.model.expansion(of: unit) else {
            return nil
        }
        (self.model, self.work) = (model, work)
    }

    /// Does the next piece, and puts the unit to use after the last.
    /// - Returns: its bytes, once it is in use.
    func advance() -> Int? {
        guard let unit = work.advance(model.model.pool) else { return nil }
        model.install(unit)
        return unit.byteCount
    }
}
