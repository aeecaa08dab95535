import EbbClient
import EbbProtocol
import TestKit
import Testing

@testable import Service

@Suite("Experts in the service")
struct ExpertServiceTests {
    @Test("A model's experts are expanded and dropped with its layers, and events name each of them once")
    func followsPressure() async throws {
        let models = try TinyModels.mixture("olmoe")
        defer { withExtendedLifetime(models) {} }
        try await RunningService.with(models: models.path, configure: { $0.defaultWish = .auto }) { service in
            let ebb = try await service.client()
            var iterator = try await service.client().events().makeAsyncIterator()
            _ = try await iterator.next()
            _ = try await ebb.load("olmoe")
            try await service.until("all expanded") { $0.layers == 3 && $0.expanded == 3 && $0.expandedExperts == 8 }
            try await ebb.setPressure(.critical, seconds: 60)
            var (grown, dropped): ([EbbEvent], [EbbEvent]) = ([], [])
            while dropped.isEmpty, let event = try await iterator.next() {
                if event.kind == .mode, event.what == "expanded" { grown.append(event) }
                if event.what == "dropped" { dropped.append(event) }
            }
            #expect(grown.flatMap(\.changedExperts).sorted() == Array(0..<8))
            #expect(grown.flatMap(\.changedLayers).sorted() == [0, 1, 2])
            #expect(grown.last?.standing == "3 of 3 layers, 8 of 8 experts")
            #expect(dropped.first?.changes == "3 layers, 8 experts")
            #expect(dropped.first?.expandedExperts == 0 && dropped.first?.experts == 8)
        }
    }

    @Test("A pin of a mode holds for experts too")
    func pins() async throws {
        let models = try TinyModels.mixture("qwen3moe")
        defer { withExtendedLifetime(models) {} }
        try await RunningService.with(models: models.path) { service in
            let ebb = try await service.client()
            _ = try await ebb.load("qwen3moe")
            try await ebb.setMode("qwen3moe", .dequantized)
            try await service.until("pinned") { $0.experts == 8 && $0.expandedExperts == 8 && $0.expanded == 3 }
            try await ebb.setMode("qwen3moe", .memoryLow)
            try await service.until("pinned back") { $0.expandedExperts == 0 && $0.expanded == 0 }
        }
    }
}
