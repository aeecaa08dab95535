import EbbProtocol
import Foundation
import Synchronization
import TestKit

/// A daemon that answers as a test says: what a real one would not send.
final class FakeDaemon: Sendable {
    typealias Body = EbbEnvelope.OneOf_Body

    let socket: String
    private let descriptor: Int32
    private let seen = Mutex<[Body]>([])

    /// - Parameter answer: what a request is answered by.
    init(in folder: TemporaryFolder, answer: @escaping @Sendable (Body) -> [Body]) throws {
        socket = folder.file("fake-\(UUID().uuidString.prefix(8))")
        descriptor = try Self.listen(socket)
        Thread.detachNewThread { [descriptor, weak self] in
            while true {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else { break }
                while let request = Self.read(client), let body = request.body {
                    if case .hello = body {
                        var welcome = EbbWelcome()
                        (welcome.version, welcome.server) = (1, "fake")
                        Self.write(client, EbbEnvelope(id: request.id, .welcome(welcome)))
                        continue
                    }
                    self?.seen.withLock { $0.append(body) }
                    for one in answer(body) { Self.write(client, EbbEnvelope(id: request.id, one)) }
                }
                close(client)
            }
            close(descriptor)
        }
    }

    deinit { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// What clients have asked, without their handshakes.
    var requests: [Body] { seen.withLock { $0 } }

    private static func listen(_ path: String) throws -> Int32 {
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) }
        }
        guard code == 0, Glibc.listen(descriptor, 8) == 0 else { throw CocoaError(.fileWriteUnknown) }
        return descriptor
    }

    private static func read(_ client: Int32) -> EbbEnvelope? {
        guard let head = bytes(client, 4) else { return nil }
        let length = head.reduce(0) { $0 << 8 | Int($1) }
        return bytes(client, length).flatMap { try? EbbEnvelope(serializedBytes: $0) }
    }

    private static func bytes(_ client: Int32, _ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = count == 0 ? 0 : recv(client, &bytes, count, Int32(MSG_WAITALL))
        return got == count ? bytes : nil
    }

    private static func write(_ client: Int32, _ envelope: EbbEnvelope) {
        guard let payload: [UInt8] = try? envelope.serializedBytes() else { return }
        let head = (0..<4).map { UInt8(truncatingIfNeeded: payload.count >> (24 - 8 * $0)) }
        var rest = (head + payload)[...]
        while !rest.isEmpty {
            let sent = rest.withUnsafeBytes { send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard sent > 0 else { return }
            rest = rest.dropFirst(sent)
        }
    }
}
