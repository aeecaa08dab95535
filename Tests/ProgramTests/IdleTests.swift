import Foundation
import Testing
import TestKit

@Suite("An idle daemon", .serialized)
struct IdleTests {
    /// Seconds between two looks, and looks at a time that are compared: 20 seconds.
    private static let (pause, looks) = (4, 5)

    /// What a process has done: ticks of 10 ms, and times that one of its threads went to sleep.
    private struct Use {
        var ticks = 0
        var sleeps = 0

        init(of daemon: Daemon) throws {
            let folder = "/proc/\(daemon.process.pid)"
            let text = try String(contentsOfFile: folder + "/stat", encoding: .utf8)
            // utime and stime are the 14th and 15th field; the second, a name, may hold blanks.
            let fields = try #require(text.split(separator: ")").last).split(separator: " ")
            ticks = (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0)
            for thread in try FileManager.default.contentsOfDirectory(atPath: folder + "/task") {
                // A thread may have ended meanwhile.
                let status = (try? String(contentsOfFile: "\(folder)/task/\(thread)/status", encoding: .utf8)) ?? ""
                let line = status.split(separator: "\n").first { $0.hasPrefix("voluntary_ctxt_switches") }
                sleeps += line.flatMap { $0.split(whereSeparator: \.isWhitespace).last }.flatMap { Int($0) } ?? 0
            }
        }

        init(from before: Use, to after: Use) {
            ticks = after.ticks - before.ticks
            sleeps = max(0, after.sleeps - before.sleeps)
        }
    }

    /// It gets quiet sooner or later, as the machine and its other programs let it; one that has a timer never does.
    @Test(
        "Sleeps for good without a model, and wakes a few times a minute with one that is loaded and expanded",
        .disabled(if: Programs.isSanitized))
    func idle() throws {
        let (empty, loaded) = (try Daemon(), try Daemon(mode: "auto"))
        #expect(try empty.ctl(["status"]).code == 0)
        #expect(try loaded.ctl(["run", "smollm2", "--raw", "The sea", "-n", "4"]).code == 0)
        // Where the kernel does not tell of pressure, a loaded model is looked after once a second: two threads wake.
        let log = try String(contentsOfFile: loaded.folder.file("err"), encoding: .utf8)
        let most = log.contains("source PSI system: no stall (trigger") ? 12 : 100
        var uses = [(try Use(of: empty), try Use(of: loaded))]
        var isQuiet = false
        while !isQuiet, uses.count <= 6 * Self.looks {
            sleep(UInt32(Self.pause))
            uses.append((try Use(of: empty), try Use(of: loaded)))
            guard uses.count > Self.looks else { continue }
            let (before, after) = (uses[uses.count - 1 - Self.looks], uses[uses.count - 1])
            let (without, with) = (Use(from: before.0, to: after.0), Use(from: before.1, to: after.1))
            print("in \(Self.pause * Self.looks) s: without a model \(without), with one \(with)")
            isQuiet = without.sleeps <= 4 && without.ticks <= 2 && with.sleeps <= most && with.ticks <= 5
        }
        #expect(isQuiet)
        let status = try loaded.ctl(["status", "--json"]).output
        #expect(status.contains("\"expandedLayers\":31") || status.contains("\"expandedLayers\": 31"), "\(status)")
    }
}
