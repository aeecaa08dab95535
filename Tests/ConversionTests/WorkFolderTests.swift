import Conversion
import Foundation
import Testing
import TestKit

@Suite("Folders for measuring")
struct WorkFolderTests {
    /// A folder as a process that was killed leaves it.
    private func abandoned() throws -> (path: String, lock: Int32) {
        let path = NSTemporaryDirectory() + "ebb-work-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Data([1]).write(to: URL(fileURLWithPath: path + "/1.ebb"))
        return (path, open(path + "/lock", O_RDWR | O_CREAT, 0o600))
    }

    @Test("Those of dead processes are removed, those in use stay")
    func leftovers() throws {
        let (dead, live) = (try abandoned(), try abandoned())
        #expect(flock(live.lock, LOCK_EX) == 0)
        WorkFolder.removeLeftovers()
        #expect(!FileManager.default.fileExists(atPath: dead.path))
        #expect(FileManager.default.fileExists(atPath: live.path + "/1.ebb"))
        flock(live.lock, LOCK_UN)
        WorkFolder.removeLeftovers()
        #expect(!FileManager.default.fileExists(atPath: live.path))
        close(dead.lock)
        close(live.lock)
    }
}
