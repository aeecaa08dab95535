import Foundation
import ModelFormat
import Testing
import TestKit

@Suite("ebbctl import", .serialized)
struct ImportTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// Imports bytes as a model; what is left in the model folder afterwards comes with the outcome.
    private func importing(_ bytes: [UInt8], into models: String? = nil) throws -> (Programs.Outcome, left: [String]) {
        let source = try folder.write("in.gguf", bytes)
        let target = models ?? folder.file("models")
        let outcome = try Programs.run("ebbctl", ["import", source, "--name", "tiny", "--models", target])
        return (outcome, ((try? FileManager.default.contentsOfDirectory(atPath: target)) ?? []).sorted())
    }

    /// One clear sentence on standard error, a code that is not 0, no partial file.
    private func expectRefusal(_ result: (Programs.Outcome, left: [String]), _ words: String...) {
        let (outcome, left) = result
        #expect(outcome.code != 0)
        #expect(outcome.output.isEmpty)
        #expect(
            outcome.errors.hasPrefix("Error: ") && outcome.errors.split(separator: "\n").count == 1, "\(outcome.errors)"
        )
        for word in words { #expect(outcome.errors.contains(word), "\(outcome.errors)") }
        #expect(left.isEmpty, "\(left)")
    }

    @Test("A right file is imported")
    func right() throws {
        let (outcome, left) = try importing(TinyLlama.gguf())
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(left == ["tiny.ebb"])
        #expect(outcome.output.contains("ebbctl run tiny"))
        let again = try importing(TinyLlama.gguf())
        #expect(again.0.code != 0 && again.0.errors.contains("--force"))
    }

    @Test("A model gets the chat template that it is imported with, and one that is none is refused")
    func chatTemplate() throws {
        let source = try folder.write(
            "in.gguf", TinyLlama.gguf { $0.pairs.append(("tokenizer.chat_template", .string("old"))) })
        func importing(_ template: String) throws -> Programs.Outcome {
            try Programs.run(
                "ebbctl",
                ["import", source, "--name", "t", "--force", "--models", folder.path, "--chat-template", template])
        }
        func template() throws -> String? {
            try EbbFile(path: folder.file("t.ebb")).metadata.string("tokenizer.chat_template")
        }
        let own = try importing(try folder.write("own.jinja", Array("{{ messages[0].content }}".utf8)))
        #expect(own.code == 0, "\(own.errors)")
        #expect(try template() == "{{ messages[0].content }}")
        let chatML = try importing("chatml")
        #expect(chatML.code == 0 && chatML.errors.contains("<|im_end|>"), "\(chatML.errors)")
        #expect(try template()?.contains("<|im_start|>") == true)
        let broken = try importing(try folder.write("broken.jinja", Array("\n{% if %}".utf8)))
        #expect(broken.code == 9 && broken.errors.contains("line 2"), "\(broken.errors)")
        #expect(try importing(folder.file("none")).code == 9)
    }

    @Test("A truncated GGUF is refused")
    func truncated() throws { expectRefusal(try importing(Array(TinyLlama.gguf().dropLast(500))), "truncated") }

    @Test("A tensor whose offset overflows is refused")
    func offset() throws { expectRefusal(try importing(TinyLlama.gguf { $0.tensors[2].offset = .max - 31 }), "blk.0") }

    @Test("A shape that overflows is refused")
    func shape() throws {
        expectRefusal(
            try importing(TinyLlama.gguf { $0.tensors[2].dimensions = [1 << 30, 1 << 30, 1 << 30] }), "overflows")
    }

    @Test("An unknown architecture is refused")
    func architecture() throws {
        expectRefusal(
            try importing(TinyLlama.gguf { $0.pairs[0] = ("general.architecture", .string("parrot")) }), "parrot")
    }

    @Test("An unknown tensor type is refused")
    func tensorType() throws { expectRefusal(try importing(TinyLlama.gguf { $0.tensors[0].type = 77 }), "77") }

    @Test("What is no GGUF is refused")
    func noGGUF() throws { expectRefusal(try importing(Array("hello, this is text".utf8)), "not a GGUF") }

    @Test("A full disk is an error, and nothing is left on it")
    func fullDisk() throws {
        let mount = folder.file("small")
        try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
        let mounted = try Programs.run("/bin/mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", mount])
        guard mounted.code == 0 else {
            print("skipped: a tmpfs cannot be mounted here (\(mounted.errors))")
            return
        }
        defer { _ = try? Programs.run("/bin/umount", [mount]) }
        let source = try RealModel.smollm2.path
        let outcome = try Programs.run("ebbctl", ["import", source, "--name", "big", "--models", mount])
        let left = try FileManager.default.contentsOfDirectory(atPath: mount)
        expectRefusal((outcome, left), "No space left")
    }

    @Test("Weights that are NaN are refused, with the tensor's name")
    func notANumber() throws {
        let bytes = TinyLlama.gguf {
            $0["blk.1.attn_k.weight"] = [.nan, .nan] + $0["blk.1.attn_k.weight"].dropFirst(2)
        }
        expectRefusal(try importing(bytes), "blk.1.attn_k.weight", "2 values")
    }

    @Test("A setting that would be left out is refused, with its name")
    func unknownSetting() throws {
        expectRefusal(
            try importing(TinyLlama.gguf { $0.set("llama.new.setting", .uint32(3)) }), "llama.new.setting (3)")
    }

    @Test("An import that is killed leaves nothing that is loaded, and the next one removes what it left")
    func killed() throws {
        let models = ModelStore(folder: folder.file("models"))
        let child = try Child(
            "ebbctl", ["import", try RealModel.qwen2.path, "--name", "big", "--models", models.folder],
            environment: [:], folder: folder)
        func partial() -> [String] {
            ((try? FileManager.default.contentsOfDirectory(atPath: models.folder)) ?? []).filter {
                $0.hasPrefix("big.ebb.partial-")
            }
        }
        try Programs.wait("the partial file", for: 60) { !partial().isEmpty || !child.isRunning }
        child.signal(SIGSTOP)
        // It is in use: another import leaves it alone.
        #expect(try importing(TinyLlama.gguf()).0.code == 0)
        #expect(partial().count == 1)
        child.signal(SIGKILL)
        #expect(try child.wait() == 128 + SIGKILL)
        #expect(partial().count == 1)
        #expect(try models.names() == ["tiny"])
        unlink(models.folder + "/tiny.ebb")
        let (outcome, left) = try importing(TinyLlama.gguf())
        #expect(outcome.code == 0 && left == ["tiny.ebb"], "\(left)")
    }

    @Test("A header with a flipped byte is refused by every command that opens the model")
    func flippedHeader() throws {
        #expect(try importing(TinyLlama.gguf()).0.code == 0)
        let path = folder.file("models/tiny.ebb")
        var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        bytes[20] ^= 1
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        for command in [["inspect", "tiny"], ["verify", "tiny"], ["tokenize", "tiny", "a"], ["bench", "tiny"]] {
            let outcome = try Programs.run("ebbctl", command + ["--models", folder.file("models")])
            #expect(outcome.code != 0 && outcome.errors.contains("tiny.ebb"), "\(command): \(outcome.errors)")
        }
    }
}
