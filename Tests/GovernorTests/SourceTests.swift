import Foundation
import Governor
import Testing

@Suite("Sources")
struct SourceTests {
    @Test("/proc/meminfo is understood")
    func meminfo() throws {
        let memory = try #require(
            SystemMemory(meminfo: "MemTotal:       24684276 kB\nMemFree: 1 kB\nMemAvailable:   24391600 kB\n"))
        #expect(memory.total == 24_684_276 * 1024 && memory.available == 24_391_600 * 1024)
        #expect(SystemMemory(meminfo: "MemTotal: x kB") == nil)
        #expect(SystemMemory(meminfo: "") == nil)
    }

    @Test("This system's memory can be read")
    func thisSystem() throws {
        let memory = try #require(SystemMemory.now())
        #expect(memory.available > 0 && memory.available <= memory.total)
    }

    @Test(
        "Little available memory is pressure",
        arguments: [
            (50, PressureLevel.nominal), (11, .nominal), (9, .warning), (6, .warning), (4, .critical), (0, .critical),
        ])
    func available(percent: Int, level: PressureLevel) throws {
        let memory = try #require(SystemMemory(meminfo: "MemTotal: 100000 kB\nMemAvailable: \(percent * 1000) kB"))
        #expect(AvailableMemorySource().reading(memory).level == level)
    }

    @Test("Where the kernel has PSI, a trigger is armed and is quiet without stalls")
    func psi() {
        guard FileManager.default.fileExists(atPath: "/proc/pressure/memory") else { return }
        let source = PSISource()
        #expect(source != nil)
        #expect(source?.read().text.isEmpty == false)
    }

    @Test("A file that is no pressure file gives no source")
    func noPSI() {
        #expect(PSISource(path: "/nonexistent") == nil)
    }

    @Test("There is always a source")
    func sources() { #expect(PressureSources.ofThisSystem().contains { $0.name == "MemAvailable" }) }
}
