import Engine

/// The expansion that is being made, in pieces between steps.
struct Growth {
    let model: HostedModel
    private let work: LayerExpansion
    /// Its bytes in the ledger, until they are in place.
    private let reservation: Ledger.Reservation?

    var layer: Int { work.layer }

    /// nil where there is no room for it (what is pinned needs none), or the system refuses the memory: the next tick of
    /// the governor tries again.
    init?(_ model: HostedModel, layer: Int, _ ledger: Ledger) {
        reservation = ledger.reserve(.expanding, model.model.expandedBytes(layer))
        guard reservation != nil || model.wish == .dequantized, let work = try? model.model.expansion(of: layer) else {
            return nil
        }
        (self.model, self.work) = (model, work)
    }

    /// Does the next piece, and puts the layer to use after the last.
    /// - Returns: its bytes, once it is in use.
    func advance() -> Int? {
        guard let layer = work.advance(model.model.pool) else { return nil }
        model.install(layer)
        return layer.byteCount
    }
}
