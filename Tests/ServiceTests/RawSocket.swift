import EbbProtocol
import Glibc
import Service

/// A client that can misbehave: bytes straight onto the socket.
final class RawSocket {
    private let fd: Int32

    init(_ path: String) throws {
        fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(fd, $0, size) }
        }
        guard code == 0 else { throw ServiceError(.internal, "cannot connect: \(errno)") }
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(fd) }

    func send(_ bytes: [UInt8]) { _ = Glibc.send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL.rawValue)) }

    func send(_ id: UInt64, _ body: EbbEnvelope.OneOf_Body) throws {
        let payload: [UInt8] = try EbbEnvelope(id: id, body).serializedBytes()
        send(withUnsafeBytes(of: UInt32(payload.count).bigEndian) { Array($0) } + payload)
    }

    func shutdownWriting() { shutdown(fd, Int32(SHUT_WR)) }

    /// The next envelope; nil where the daemon has closed.
    func receive() throws -> EbbEnvelope? {
        guard let head = read(4) else { return nil }
        let length = head.reduce(0) { $0 << 8 | Int($1) }
        guard let payload = read(length) else { return nil }
        return try EbbEnvelope(serializedBytes: payload)
    }

    private func read(_ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let n = bytes.withUnsafeMutableBytes { recv(fd, $0.baseAddress.map { $0 + done }, count - done, 0) }
            if n <= 0 { return nil }
            done += n
        }
        return bytes
    }

    func greet() throws {
        var hello = EbbHello()
        (hello.versionMin, hello.versionMax, hello.client) = (1, 1, "raw")
        try send(1, .hello(hello))
        guard case .welcome? = try receive()?.body else { throw ServiceError(.internal, "no welcome") }
    }
}
