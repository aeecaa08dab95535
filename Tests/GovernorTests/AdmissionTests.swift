import Governor
import Testing

@Suite("Admission")
struct AdmissionTests {
    private static let mib = 1 << 20

    private func admission(
        available: Int = 1000, reclaimable: Int = 0, inUse: Int = 0, level: PressureLevel = .nominal
    ) -> Admission {
        Admission(
            available: available * Self.mib, reclaimable: reclaimable * Self.mib, inUse: inUse * Self.mib,
            policy: Policy(budget: 500 * Self.mib, reserve: 200 * Self.mib), level: level)
    }

    private func reason(_ verdict: Admission.Verdict) -> String? {
        if case .refused(let why, _) = verdict { return why }
        return nil
    }

    @Test("What fits is admitted")
    func fits() {
        #expect(admission().verdict("x", anonymous: 400 * Self.mib, mapped: 400 * Self.mib) == .admitted)
    }

    @Test("What the system has no memory for is refused with what is needed, what there is, and what would help")
    func tooMuch() throws {
        let why = try #require(
            reason(admission(available: 300).verdict("loading m", anonymous: 100 * Self.mib, mapped: 150 * Self.mib)))
        #expect(why.contains("loading m needs about 250 MiB") && why.contains("200 MiB can be had"))
        #expect(why.contains("unload a model"))
    }

    @Test("What Ebb would give up counts as room")
    func reclaimable() {
        let admission = admission(available: 300, reclaimable: 100)
        #expect(admission.verdict("x", anonymous: 100 * Self.mib, mapped: 150 * Self.mib) == .admitted)
    }

    @Test("The budget is Ebb's own, whatever the system has")
    func budget() throws {
        let why = try #require(reason(admission(inUse: 450).verdict("x", anonymous: 60 * Self.mib)))
        #expect(why.contains("memory budget of 500 MiB") && why.contains("50 MiB are left"))
    }

    @Test("At critical no model is loaded")
    func critical() throws {
        let why = try #require(reason(admission(level: .critical).verdictOnLoad("m", anonymous: 0, mapped: 0)))
        #expect(why.contains("critically scarce"))
    }
}
