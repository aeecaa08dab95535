import EbbProtocol
import Foundation
import Governor
import ModelFormat
import Service
import TestKit
import Testing

@Suite("The settings file")
struct SettingsTests {
    private static let machine = 16 << 30
    private static let policy = Policy(budget: 4 << 30, reserve: 2 << 30)

    private func read(_ json: String) throws -> Settings {
        try Settings(Array(json.utf8), name: "s.json", machine: Self.machine, policy: Self.policy)
    }

    /// The error of a file that is refused.
    private func refusal(_ json: String) -> String {
        do {
            let settings = try read(json)
            return "taken: \(settings)"
        } catch { return "\(error)" }
    }

    @Test("What is left out has its default")
    func defaults() throws {
        let settings = try read("{}")
        #expect(settings.policy == Self.policy && settings.limits == ServiceLimits())
    }

    private static let rightSizes: [(String, Int)] = [
        ("512M", 536_870_912),
        ("512m", 536_870_912),
        ("512 MiB", 536_870_912),
        ("1GB", 1_000_000_000),
        ("1 gb", 1_000_000_000),
        ("1.5G", 1_610_612_736),
        ("2 g", 2_147_483_648),
        ("1000000", 1_000_000),
        ("64kb", 64_000),
        ("25%", 4_294_967_296),
        ("25 %", 4_294_967_296),
        ("12.5%", 2_147_483_648),
        ("100%", 17_179_869_184),
        ("0", 0),
        ("16G", 17_179_869_184),
    ]

    @Test("Sizes are written as people write them", arguments: rightSizes)
    func sizes(text: String, bytes: Int) throws {
        #expect(try read(#"{"memoryReserve": "\#(text)"}"#).policy.reserve == bytes)
    }

    @Test("A budget that nothing can be served with is refused")
    func noBudget() throws {
        #expect(refusal(#"{"memoryBudget": "0"}"#).contains("16M to 16G are possible"))
        #expect(try read(#"{"memoryBudget": "16M"}"#).policy.budget == 16 << 20)
    }

    @Test("A setting that is said twice is refused by name")
    func saidTwice() {
        let error = refusal(#"{"maxQueued": 10, "maxQueued": 20}"#)
        #expect(error.contains("\"maxQueued\" is said a second time"), "\(error)")
    }

    @Test(
        "Sizes that cannot be are refused with what is possible",
        arguments: [
            "99999T", "17G", "101%", "-1", "-5%", "1e30", "", "G", "%", "lots", "1 X", "1..2G", "nan", "inf", "0x10",
            "9223372036854775808", "1G1",
        ])
    func impossible(text: String) {
        let error = refusal(#"{"memoryReserve": "\#(text)"}"#)
        #expect(error.hasPrefix("s.json: memoryReserve is \"\(text)\"; "), "\(error)")
    }

    @Test("A size beyond the machine's memory is refused with that")
    func beyondTheMachine() {
        #expect(refusal(#"{"memoryReserve": "99999T"}"#).contains("0 to 16G are possible"))
    }

    @Test("Wrong types are refused with the key and what is expected")
    func types() {
        for (json, words) in [
            (#"{"memoryBudget": 1000}"#, ["memoryBudget is 1000", "in quotes"]),
            (#"{"memoryBudget": null}"#, ["memoryBudget is null"]),
            (#"{"idleSeconds": "ten"}"#, ["idleSeconds is \"ten\"", "number of seconds"]),
            (#"{"idleSeconds": true}"#, ["idleSeconds is true"]),
            (#"{"calmSeconds": -1}"#, ["calmSeconds is -1"]),
            (#"{"maxConnections": 1.5}"#, ["maxConnections is 1.5", "whole number"]),
            (#"{"maxConnections": 0}"#, ["1 to 65536"]),
            (#"{"maxTextBytes": "1T"}"#, ["maxTextBytes", "1K to 4M"]),
            (#"{"maxQueued": []}"#, ["maxQueued is a list"]),
            (#"{"textThreads": {}}"#, ["textThreads is an object"]),
        ] {
            let error = refusal(json)
            for word in words + ["s.json"] { #expect(error.contains(word), "\(json): \(error)") }
        }
    }

    @Test("An unknown key is refused by name, with the nearest that there is")
    func unknownKeys() {
        for (key, nearest) in [
            ("memorybudget", "memoryBudget"), ("memory_budget", "memoryBudget"), ("maxConections", "maxConnections"),
            ("idleSecond", "idleSeconds"), ("maxTextByte", "maxTextBytes"),
        ] {
            let error = refusal("{\"\(key)\": 1}")
            #expect(error.contains("\"\(key)\" is no setting; \"\(nearest)\" is one"), "\(error)")
        }
        let error = refusal(#"{"colour": "red"}"#)
        #expect(error.contains("\"colour\"") && error.contains("these are: memoryBudget, memoryReserve"), "\(error)")
    }

    @Test("docs/settings.md lists every key")
    func documented() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../..").standardized
            .path
        let page = try String(contentsOfFile: root + "/docs/settings.md", encoding: .utf8)
        let keys = refusal(#"{"colour": "red"}"#).split(separator: ": ").last?.split(separator: ", ") ?? []
        #expect(keys.count == 18)
        for key in keys { #expect(page.contains("\n| \(key) | "), "\(key)") }
    }

    @Test("What is no JSON object is refused, with the place")
    func noObject() {
        #expect(refusal("nonsense").contains("byte 0"))
        #expect(refusal(#"{"idleSeconds": 1"#).contains("s.json"))
        #expect(refusal("[1]").contains("no JSON object"))
        #expect(refusal("").contains("s.json"))
        #expect(refusal(String(repeating: "[", count: 60_000)).contains("nested too deeply"))
        #expect(
            throws: FormatError.self,
            performing: { try Settings([0x7b, 0xff, 0x7d], name: "s", machine: Self.machine) })
    }

    @Test("All limits of clients can be set")
    func limits() throws {
        let settings = try read(
            """
            {"maxConnections": 64, "maxConnectionsPerUser": 32, "maxRequestsPerConnection": 8,
             "maxQueuedPerConnection": 16, "maxQueuedPerUser": 17, "maxQueued": 18, "handshakeSeconds": 2,
             "maxQueuedReplyBytes": "16M", "maxTextBytes": "1M", "slowReaderSeconds": 5.5, "templateSeconds": 0.5,
             "textThreads": 2}
            """)
        var wanted = ServiceLimits()
        (wanted.maxConnections, wanted.maxConnectionsPerUser, wanted.maxRequestsPerConnection) = (64, 32, 8)
        (wanted.maxQueuedPerConnection, wanted.maxQueuedPerUser, wanted.maxQueued) = (16, 17, 18)
        (wanted.handshakeSeconds, wanted.slowReaderSeconds, wanted.templateSeconds) = (2, 5.5, 0.5)
        (wanted.maxQueuedReplyBytes, wanted.maxTextBytes, wanted.textThreads) = (16 << 20, 1 << 20, 2)
        #expect(settings.limits == wanted)
    }

    @Test("Variables of templates are objects by model, without what requests say")
    func variables() throws {
        #expect(throws: Never.self) { try read(#"{"templateVariables": {"*": {"enable_thinking": false}}}"#) }
        #expect(refusal(#"{"templateVariables": 1}"#).contains("templateVariables"))
        #expect(refusal(#"{"templateVariables": {"qwen": []}}"#).contains("qwen"))
        #expect(refusal(#"{"templateVariables": {"qwen": {"messages": []}}}"#).contains("messages"))
    }

    @Test("The file is read whatever its line ends and its byte order mark; a pipe, a folder and a huge file are not")
    func files() throws {
        let folder = try TemporaryFolder()
        let text = "\u{feff}{\r\n  \"idleSeconds\": 7\r\n}\r\n"
        #expect(try Settings(path: try folder.write("s.json", Array(text.utf8))).policy.idleTime == 7)
        #expect(mkfifo(folder.file("pipe"), 0o600) == 0)
        for name in ["pipe", ".", "none"] {
            #expect(throws: FormatError.self) { try Settings(path: folder.file(name)) }
        }
        let huge = try folder.write("huge.json", Array(repeating: UInt8(ascii: " "), count: 1 << 20))
        let error = #expect(throws: FormatError.self) { try Settings(path: huge) }
        #expect(error?.description.contains("longer than 64 KiB") == true)
    }

    @Test("No bytes trap: mutations of a right file are taken or refused")
    func mutations() throws {
        let right = Array(
            #"{"memoryBudget": "25 %", "memoryReserve": "1.5GB", "idleSeconds": 1e3, "maxConnections": 64}"#.utf8)
        var random = TestRandom(seed: 5)
        for _ in 0..<20_000 {
            var bytes = right
            for _ in 0..<1 + Int(random.next() % 4) {
                let at = Int(random.next() % UInt64(bytes.count))
                switch random.next() % 3 {
                case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes.insert(contentsOf: Array("9e9%-\"{".utf8).prefix(Int(random.next() % 7)), at: at)
                default: bytes.remove(at: at)
                }
            }
            guard let settings = try? Settings(bytes, name: "s", machine: Self.machine, policy: Self.policy) else {
                continue
            }
            #expect((0...Self.machine).contains(settings.policy.budget) && settings.policy.idleTime >= 0)
        }
    }
}
