import Foundation
import FuzzTargets
import Testing

@Suite("What fuzzing has found, once more", .serialized)
struct ReplayTests {
    private static let room = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()

    private func files(_ kind: String, _ target: FuzzTarget) -> [URL] {
        let folder = Self.room.appending(path: kind).appending(path: target.name)
        let found = try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        return (found ?? []).sorted { $0.path < $1.path }
    }

    @Test("Inputs that once ended the program, and the corpus, are read to their end", arguments: FuzzTarget.all)
    func replay(target: FuzzTarget) throws {
        for kind in ["Findings", "Corpus"] {
            for file in files(kind, target) {
                print(file.path)  // the last line of a test run that ends here names the input
                try? target.run(Array(try Data(contentsOf: file)))
            }
        }
    }

    @Test(
        "A target's seeds are within its bounds, and one at least is read without an error", arguments: FuzzTarget.all)
    func seeds(target: FuzzTarget) throws {
        let seeds = try target.seeds()
        #expect(seeds.allSatisfy { $0.count <= target.longest })
        #expect(seeds.contains { (try? target.run($0)) != nil })
    }
}
