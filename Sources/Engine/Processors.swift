/// The processors of this machine as far as they matter to how many threads compute, and how many that are where nobody
/// says. Pure: ``ProcessorFiles`` reads the values.
package struct Processors: Sendable, Equatable {
    package struct Processor: Sendable, Equatable {
        /// The kernel's number of it.
        package var number: Int
        /// All hyper-threads of its core, itself included; empty where that is unknown.
        package var siblings: Set<Int> = []
        /// Speed relative to the machine's fastest, which has 1024 (`cpu_capacity`).
        package var capacity: Int?
        /// In kHz (`cpuinfo_max_freq`).
        package var frequency: Int?

        package init(number: Int) { self.number = number }
    }

    /// Those that the process may run on.
    package var allowed: [Processor]
    /// What Intel's hybrids call cores rather than atoms; empty elsewhere.
    package var performance: Set<Int> = []
    /// Processors' worth of time that the control groups allow; nil without a quota.
    package var quota: Double?

    package init(allowed: [Processor]) { self.allowed = allowed }

    /// A core below this share of the best one's capacity is left out: little cores have 0.2 to 0.6 of it, the middle
    /// ones of three kinds 0.75 and more.
    private static let capacityShare = 0.7
    /// As above by the highest frequency, which tells less, since small cores also do less in a cycle: theirs is up to
    /// 0.81 of the best. Equal cores differ by up to 6 %, as some are picked for a higher boost.
    private static let frequencyShare = 0.85
    /// A rest of the quota below this brings nothing: see ``threads``.
    private static let worthwhileRest = 0.25
    /// As many as `--threads` takes.
    private static let most = 256

    /// One thread for each core: a second hyper-thread shares its core's arithmetic, and a core that is much slower
    /// than the others holds each fork up at its end. At least 1.
    ///
    /// Of a quota of 1.5 processors, 2: they stand still for a quarter of each period, and do some 1.4 times as much as
    /// one alone. Of 1.2, 1: two would bring a tenth, for standing still two fifths of each period, streams and all.
    package var threads: Int {
        let cores = Self.onePerCore(strongest).count
        let granted = quota.map { min(max($0 + 1 - Self.worthwhileRest, 1), Double(Self.most)) } ?? Double(Self.most)
        return max(1, min(cores, Int(granted)))
    }

    private var strongest: [Processor] {
        // First: with hyper-threads on, the kernel gives both kinds the same capacity.
        let named = allowed.filter { performance.contains($0.number) }
        if !named.isEmpty { return named }
        let capable = Self.strongest(allowed, by: \.capacity, share: Self.capacityShare)
        return capable.count < allowed.count
            ? capable : Self.strongest(allowed, by: \.frequency, share: Self.frequencyShare)
    }

    /// All, where the figure of one is unknown.
    private static func strongest(_ all: [Processor], by figure: (Processor) -> Int?, share: Double) -> [Processor] {
        let figures = all.compactMap(figure)
        guard figures.count == all.count, let best = figures.max() else { return all }
        return zip(all, figures).filter { Double($0.1) >= Double(best) * share }.map(\.0)
    }

    private static func onePerCore(_ all: [Processor]) -> Set<Int> {
        var taken: Set<Int> = []
        for processor in all where taken.isDisjoint(with: processor.siblings) { taken.insert(processor.number) }
        return taken
    }
}
