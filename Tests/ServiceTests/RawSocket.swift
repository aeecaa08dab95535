import EbbProtocol
import Glibc
import Service
import Testing

/// A client that can misbehave: bytes straight onto the socket.
final class RawSocket {
    private let fd: Int32

    init(_ path: String) throws {
        fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let code = Self.call(connect, fd, path)
        guard code == 0 else { throw ServiceError(.internal, "cannot connect: \(errno)") }
        var timeout = timeval(tv_sec: 300, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(fd) }

    /// connect(2) or bind(2) with a Unix socket's address.
    private static func call(
        _ function: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32, _ fd: Int32, _ path: String
    ) -> Int32 {
        let address = UnsafeMutablePointer<sockaddr_un>.allocate(capacity: 1)
        defer { address.deallocate() }
        address.initialize(to: sockaddr_un())
        address.pointee.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8) + [0]
        memcpy(UnsafeMutableRawPointer(address) + 2, bytes, min(bytes.count, 108))
        let general = UnsafeRawPointer(address).assumingMemoryBound(to: sockaddr.self)
        return function(fd, general, socklen_t(MemoryLayout<sockaddr_un>.size))
    }

    /// Leaves a socket file behind that nobody serves, as a daemon does that was killed.
    static func leaveStale(_ path: String) throws {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        guard call(bind, fd, path) == 0 else { throw ServiceError(.internal, "cannot bind: \(errno)") }
    }

    func send(_ bytes: [UInt8]) { _ = Glibc.send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

    func send(_ id: UInt64, _ body: EbbEnvelope.OneOf_Body) throws {
        send(try Self.frame(id, body))
    }

    /// Sends what the daemon takes, until it has taken nothing for a while; the bytes that went.
    func sendWhatIsTaken(_ bytes: [UInt8]) -> Int {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    fd, $0.baseAddress.map { $0 + sent }, $0.count - sent, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            }
            if count > 0 {
                sent += count
            } else {
                var waiting = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
                guard errno == EAGAIN, poll(&waiting, 1, 500) > 0 else { break }
            }
        }
        return sent
    }

    static func frame(_ id: UInt64, _ body: EbbEnvelope.OneOf_Body) throws -> [UInt8] {
        let payload: [UInt8] = try EbbEnvelope(id: id, body).serializedBytes()
        return withUnsafeBytes(of: UInt32(payload.count).bigEndian) { Array($0) } + payload
    }

    func shutdownWriting() { shutdown(fd, Int32(SHUT_WR)) }

    /// The next envelope; nil where the daemon has closed.
    func receive() throws -> EbbEnvelope? {
        guard let head = read(4) else { return nil }
        let length = head.reduce(0) { $0 << 8 | Int($1) }
        guard let payload = read(length) else { return nil }
        return try EbbEnvelope(serializedBytes: payload)
    }

    /// The next envelope is a failure with this code.
    func expectFailure(_ code: EbbCode, sourceLocation: SourceLocation = #_sourceLocation) throws {
        var found: EbbCode?
        if case .failure(let failure)? = try receive()?.body { found = failure.code }
        #expect(found == code, sourceLocation: sourceLocation)
    }

    /// The daemon has closed the connection.
    func expectEnd(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let envelope = try receive()
        #expect(envelope == nil, sourceLocation: sourceLocation)
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

    func greet(as name: String = "raw") throws {
        var hello = EbbHello()
        (hello.versionMin, hello.versionMax, hello.client) = (1, 1, name)
        try send(1, .hello(hello))
        guard case .welcome? = try receive()?.body else { throw ServiceError(.internal, "no welcome") }
    }
}
