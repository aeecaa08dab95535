import Engine
import Measuring
import TestKit
import Testing

@Suite("The KV cache")
struct KVCacheTests {
    private let prompt: [Int32] = (0..<150).map { Int32($0 * 7 % 250 + 3) }

    @Test("Full blocks turn int8 and take less; the text goes on, and all memory comes back")
    func compact() throws {
        let model = try Models.tiny()
        let sequence = model.makeSequence()
        let exact = model.makeSequence()
        _ = try model.lastLogits(sequence, prompt)
        _ = try model.lastLogits(exact, prompt)
        let before = model.kvBytes
        // Two layers with four full blocks each; the fifth is being filled.
        #expect(sequence.compact(most: 3) == 3)
        #expect(sequence.compact(most: 100) == 5)
        #expect(sequence.compact(most: 100) == 0)
        #expect(model.kvPool.int8Blocks == 8 && model.kvBytes < before)
        for token in [Int32](50..<90) {
            let (a, b) = (try model.lastLogits(exact, [token]), try model.lastLogits(sequence, [token]))
            #expect(shareOfRange(a, b) < 0.05)
        }
        sequence.reset()
        exact.reset()
        #expect(model.kvPool.usedBlocks == 0 && model.kvPool.int8Blocks == 0)
        // Pages that blocks share, too.
        #expect(MemoryRegion.residentBytes(model.kvRegions) == 0)
    }

    @Test("A sequence that shares another's beginning continues as one that was fed it all", arguments: [false, true])
    func fork(int8: Bool) throws {
        let model = try Models.tiny()
        let first = model.makeSequence()
        _ = try model.lastLogits(first, prompt)
        if int8 { #expect(first.compact(most: 100) == 8) }
        let tokens = first.shareable(100)
        #expect(tokens == 96)
        let fork = try #require(first.fork(tokens))
        #expect(fork.count == 96)
        let rest = Array(prompt[96..<120])
        let fresh = model.makeSequence()
        let expected = try model.lastLogits(fresh, Array(prompt[..<120]))
        #expect(shareOfRange(expected, try model.lastLogits(fork, rest)) < (int8 ? 0.05 : 1e-4))
        // Shared blocks are nobody's to change.
        #expect(fork.compact(most: 100) == 0)
        let used = model.kvPool.usedBlocks
        first.reset()
        #expect(model.kvPool.usedBlocks == used - 2 * 2)
        _ = try model.lastLogits(fork, [5])
        fork.reset()
        fresh.reset()
        #expect(model.kvPool.usedBlocks == 0)
    }

    @Test("A beginning can be shared by more sequences than 16 bits count, and all of it comes back")
    func manyForks() throws {
        let model = try Models.tiny()
        let first = model.makeSequence()
        _ = try model.lastLogits(first, Array(prompt[..<40]))
        _ = first.compact(most: 1)
        let used = model.kvPool.usedBlocks
        var forks = (0..<70_000).compactMap { _ in first.fork(32) }
        #expect(forks.count == 70_000 && model.kvPool.usedBlocks == used)
        #expect(try model.lastLogits(forks[69_999], [5]).count == model.config.vocabulary)
        first.reset()
        forks = []
        #expect(model.kvPool.usedBlocks == 0)
    }

    @Test("Where no more sequences can share a block none does, and nothing is lost")
    func mostHolders() throws {
        let kernels = try Kernels.fromEnvironment()
        let pool = try KVPool(kvHeads: 1, headDim: 32, capacity: 8, kernels: kernels, mostHolders: 3)
        let first = KVSequence(pool: pool, rings: [0, 0], limit: 128)
        try first.reserve(32)
        first.advance(32)
        var forks = (0..<5).compactMap { _ in first.fork(32) }
        #expect(forks.count == 2)
        forks.removeLast()
        let another = first.fork(32)
        #expect(another != nil && first.fork(32) == nil)
        first.reset()
        forks = []
        another?.reset()
        #expect(pool.usedBlocks == 0)
    }

    @Test("More blocks than there are numbers for are no trap")
    func hugePool() throws {
        let kernels = try Kernels.fromEnvironment()
        let pool = try KVPool(kvHeads: 1, headDim: 32, capacity: .max, kernels: kernels)
        #expect(pool.allocate() != nil)
    }

    @Test("A window's ring goes on through blocks that were int8 or shared")
    func ring() throws {
        let model = try Models.real(.gemma3)
        let text = String(repeating: "The sea was calm and the men went out to fish in the early light. ", count: 70)
        let ids = Array(model.tokenizer.encode(text, addSpecial: true, parseSpecial: false).prefix(1000))
        func run(_ sequence: KVSequence, _ range: Range<Int>, after: () -> Void = {}) throws -> [Float] {
            var last: [Float] = []
            for start in stride(from: range.lowerBound, to: range.upperBound, by: 96) {
                last = try model.lastLogits(sequence, Array(ids[start..<min(start + 96, range.upperBound)]))
                after()
            }
            return last
        }
        let exact = model.makeSequence()
        let expected = try run(exact, 0..<1000)
        let compacted = model.makeSequence()
        let found = try run(compacted, 0..<1000) { _ = compacted.compact(most: 1000) }
        #expect(largest(found) == largest(expected) && shareOfRange(expected, found) < 0.05)
        // Beyond its window a sequence can be gone on from its end alone.
        #expect(exact.shareable(500) == 0 && exact.shareable(1000) == 992)
        let fork = try #require(exact.fork(992))
        #expect(largest(try run(fork, 992..<1000)) == largest(expected))
        // The fork has written into its own copies of the ring's blocks.
        let again = try #require(exact.fork(992))
        #expect(largest(try run(again, 992..<1000)) == largest(expected))
    }

    @Test("A sequence that was written and read again continues as before")
    func parking() throws {
        let model = try Models.tiny()
        let sequence = model.makeSequence()
        _ = try model.lastLogits(sequence, prompt)
        _ = sequence.compact(most: 3)
        let bytes = sequence.bytes
        let expected = try model.lastLogits(sequence, [9])
        sequence.reset()
        let back = model.makeSequence()
        try back.read(bytes)
        #expect(back.count == prompt.count && model.kvPool.int8Blocks == 3)
        #expect(try model.lastLogits(back, [9]) == expected)
    }

    @Test("A parked sequence that is cut short, or not of this model, is refused and leaves nothing behind")
    func badParking() throws {
        let model = try Models.tiny()
        let sequence = model.makeSequence()
        _ = try model.lastLogits(sequence, prompt)
        let bytes = sequence.bytes
        sequence.reset()
        for length in [0, 3, 8, 20, bytes.count / 2, bytes.count - 1] {
            #expect(throws: (any Error).self) { try model.makeSequence().read(Array(bytes[..<length])) }
        }
        for word in 0..<12 {
            var damaged = bytes
            damaged[word * 4 + 1] ^= 0xff
            let target = model.makeSequence()
            do { try target.read(damaged) } catch { #expect(target.count == 0) }
            target.reset()
            #expect(model.kvPool.usedBlocks == 0)
        }
    }
}

@Suite("What the modes cost")
struct ModeProbeTests {
    @Test("The probe finds a small loss, a gain for every layer, and leaves nothing expanded")
    func probe() throws {
        let model = try Models.real(.smollm2)
        let costs = try ModeProbe.run(model, mostBytes: .max)
        print(
            "SmolLM2: dequantized \(costs.prefillRatio) x in prefill, \(costs.decodeRatio) x in decode, loss \(costs.loss)"
        )
        #expect(costs.gains.count == model.layerCount)
        let positive = costs.gains.allSatisfy { $0 > 0 }
        #expect(positive)
        #expect(costs.loss > 1e-4 && costs.loss < 0.05)
        #expect(costs.prefillRatio > 0 && costs.decodeRatio > 0)
        #expect(model.expandedBytes == 0 && model.kvPool.usedBlocks == 0)
    }

    @Test("Bypassed, expanded layers run as memory_low does; and dequantized again afterwards")
    func bypass() throws {
        let model = try Models.real(.smollm2)
        let tokens: [Int32] = [5, 6, 7, 8]
        let low = try model.lastLogits(model.makeSequence(), tokens)
        try model.setAll(expanded: true)
        let exact = try model.lastLogits(model.makeSequence(), tokens)
        let differs = low != exact
        #expect(differs)
        model.isBypassed = true
        let bypassed = try model.lastLogits(model.makeSequence(), tokens) == low
        #expect(bypassed)
        #expect(model.expandedLayers == model.layerCount)
        model.isBypassed = false
        let back = try model.lastLogits(model.makeSequence(), tokens) == exact
        #expect(back)
    }
}
