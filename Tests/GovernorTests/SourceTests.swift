import Foundation
import Glibc
import Governor
import Synchronization
import TestKit
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

    @Test("Where the kernel has PSI, a source is quiet without stalls and says how it knows")
    func psi() throws {
        guard FileManager.default.fileExists(atPath: "/proc/pressure/memory") else { return }
        let reading = try #require(PSISource()).read()
        #expect(reading.text.contains("trigger") || reading.text.contains("averages"))
    }

    @Test("A file that is no pressure file gives no source")
    func noPSI() { #expect(PSISource(path: "/nonexistent") == nil) }

    @Test("A pressure file without triggers is read by its averages, and one that vanishes is said to have")
    func averages() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("memory.pressure")
        func write(_ some: Double, _ full: Double) throws {
            try "some avg10=\(some) avg60=0.00 avg300=0.00 total=1\nfull avg10=\(full) avg60=0.00 avg300=0.00 total=1\n"
                .write(toFile: path, atomically: false, encoding: .utf8)
        }
        try write(0, 0)
        // Not writable: a trigger is refused, even to root, by a folder in its place only; so the poll's error tells.
        let source = try #require(PSISource(path: path, what: "test"))
        for fd in source.watched { source.ready(fd.descriptor, events: Int16(POLLERR)) }
        // What a trigger was written into is no pressure file any more.
        #expect(source.watched.isEmpty && source.read().level == nil)
        try write(0, 0)
        #expect(source.read().level == .nominal)
        try write(7.5, 1)
        #expect(source.read().level == .warning)
        try write(40, 6)
        #expect(source.read().level == .critical && source.read().text.contains("averages"))
        #expect(truncate(path, 0) == 0)
        #expect(source.read() == .unknown("\(path) cannot be read"))
    }

    @Test("A trigger's event counts for its window, by a clock that never jumps")
    func trigger() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("memory.pressure")
        try "some avg10=0.00 avg60=0 avg300=0 total=0\nfull avg10=0.00 avg60=0 avg300=0 total=0\n".write(
            toFile: path, atomically: false, encoding: .utf8)
        let clock = ScriptedClock()
        let found = PSISource(path: path, what: "test", clock: { clock.now })
        let source = try #require(found)
        let descriptors = source.watched.map(\.descriptor)
        try #require(descriptors.count == 3)
        // The last tells only that it is time to look.
        source.ready(descriptors[2], events: Int16(POLLPRI))
        #expect(source.read().level == .nominal)
        source.ready(descriptors[0], events: Int16(POLLPRI))
        clock.advance(1.9)
        #expect(source.read().level == .warning)
        source.ready(descriptors[1], events: Int16(POLLPRI))
        #expect(source.read().level == .critical && source.read().until == clock.now + 2)
        clock.advance(2.1)
        #expect(source.read().level == .nominal)
    }

    @Test("Stalls with plenty of memory available are those of some group at its own limit, and no pressure")
    func plenty() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("memory.pressure")
        try "some avg10=50.0 avg60=0 avg300=0 total=0\nfull avg10=50.0 avg60=0 avg300=0 total=0\n".write(
            toFile: path, atomically: false, encoding: .utf8)
        let share = Mutex(0.9)
        let found = PSISource(path: path, what: "test", availableShare: { share.withLock { $0 } })
        let source = try #require(found)
        for fd in source.watched { source.ready(fd.descriptor, events: Int16(POLLERR)) }
        try "some avg10=50.0 avg60=0 avg300=0 total=0\nfull avg10=50.0 avg60=0 avg300=0 total=0\n".write(
            toFile: path, atomically: false, encoding: .utf8)
        #expect(source.read().level == .nominal && source.read().text.contains("own limit"))
        share.withLock { $0 = 0.3 }
        #expect(source.read().level == .critical)
    }

    @Test("systemd's protocol: a FIFO is watched, what it asks for is written, and bytes are events")
    func systemdFIFO() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("pressure")
        try #require(mkfifo(path, 0o600) == 0)
        let clock = ScriptedClock()
        let found = SystemdPressureSource(environment: ["MEMORY_PRESSURE_WATCH": path], clock: { clock.now })
        let source = try #require(found)
        #expect(source.read().level == .nominal)
        let writer = open(path, O_WRONLY)
        defer { close(writer) }
        #expect(write(writer, "!", 1) == 1)
        let watched = try #require(source.watched.first)
        source.ready(watched.descriptor, events: watched.events)
        #expect(source.read().level == .warning)
        clock.advance(3)
        #expect(source.read().level == .nominal)
    }

    @Test("systemd's protocol: the text that it asks for is written into the file")
    func systemdWrites() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("memory.pressure")
        try "".write(toFile: path, atomically: false, encoding: .utf8)
        let text = "some 200000 2000000\0"
        let source = SystemdPressureSource(environment: [
            "MEMORY_PRESSURE_WATCH": path, "MEMORY_PRESSURE_WRITE": Data(text.utf8).base64EncodedString(),
        ])
        #expect(source != nil)
        #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
    }

    @Test("Without systemd's variables, or with the protocol switched off, there is no such source")
    func systemdOff() {
        #expect(SystemdPressureSource(environment: [:]) == nil)
        #expect(SystemdPressureSource(environment: ["MEMORY_PRESSURE_WATCH": "/dev/null"]) == nil)
        #expect(SystemdPressureSource(environment: ["MEMORY_PRESSURE_WATCH": "/nonexistent"]) == nil)
    }

    @Test("systemd's protocol: a service manager that goes away leaves a source that is unknown")
    func systemdEnds() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("pressure")
        try #require(mkfifo(path, 0o600) == 0)
        let source = try #require(SystemdPressureSource(environment: ["MEMORY_PRESSURE_WATCH": path]))
        let watched = try #require(source.watched.first)
        source.ready(watched.descriptor, events: Int16(POLLERR))
        #expect(source.read().level == nil && source.watched.isEmpty)
    }

    @Test("A process at its limit of descriptors still reads what it has opened")
    func descriptors() throws {
        let folder = try TemporaryFolder()
        try folder.write("figures", Array("first".utf8))
        let file = HeldFile(folder.file("figures"))
        #expect(file.text() == "first")
        unlink(folder.file("figures"))
        // It is read from its beginning each time, by the descriptor that it has.
        #expect(file.text() == "first" && file.text() == "first")
        #expect(HeldFile(folder.file("nothing")).text() == nil)
    }

    @Test("The operator's word holds for its time, and can be taken back")
    func operatorWord() {
        let clock = ScriptedClock()
        let source = OperatorSource(clock: { clock.now })
        #expect(source.read() == PressureReading(level: .nominal, text: "silent"))
        source.say(.critical, seconds: 30)
        #expect(source.read().until == clock.now + 30)
        clock.advance(29)
        #expect(source.read().level == .critical)
        clock.advance(2)
        #expect(source.read().level == .nominal)
        source.say(.warning, seconds: 30)
        source.say(.nominal, seconds: 0)
        #expect(source.read().text == "silent")
    }

    @Test("There is always a source")
    func sources() { #expect(PressureSources.ofThisSystem().contains { $0.name == "MemAvailable" }) }

    @Test("The monitor wakes for a descriptor at once, and keeps the moment")
    func monitor() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("pressure")
        try #require(mkfifo(path, 0o600) == 0)
        let source = try #require(SystemdPressureSource(environment: ["MEMORY_PRESSURE_WATCH": path]))
        let views = Mutex<[PressureView]>([])
        // An interval that a test would not wait for: only the event can wake it.
        let monitor = PressureMonitor(sources: [source], attention: Attention(interval: 3600), dwell: 5) { view in
            views.withLock { $0.append(view) }
        }
        try #require(monitor.start())
        defer { monitor.stop() }
        let writer = open(path, O_WRONLY)
        defer { close(writer) }
        let sent = MonotonicClock.now()
        #expect(write(writer, "!", 1) == 1)
        for _ in 0..<300_000 where monitor.view.level == .nominal { usleep(1000) }
        let warning = try #require(views.withLock { $0.first { $0.level == .warning } })
        #expect(try #require(warning.wokenAt) >= sent && warning.reason.contains("systemd"))
    }
}

/// A clock that a test moves.
final class ScriptedClock: Sendable {
    private let time = Mutex(100.0)
    var now: Double { time.withLock { $0 } }
    func advance(_ seconds: Double) { time.withLock { $0 += seconds } }
}
