import Foundation
import Glibc
import Synchronization

/// The pressure protocol of systemd 254 and later (https://systemd.io/MEMORY_PRESSURE): the service manager names a file
/// to watch in MEMORY_PRESSURE_WATCH, and what to write into it first in MEMORY_PRESSURE_WRITE. Its events say no
/// severity; they count as warning.
public final class SystemdPressureSource: PressureSource {
    public let name = "systemd"
    private let path: String
    private let events: Int16
    /// A FIFO or socket, whose bytes are read away.
    private let isStream: Bool
    private let clock: @Sendable () -> Double
    private let state: Mutex<(descriptor: Int32?, last: Double?)>

    /// Seconds that an event counts: the window that systemd asks the kernel for.
    private static let hold = 2.0

    /// nil where the environment does not ask for it, or the file cannot be watched.
    public init?(
        environment: [String: String] = ProcessInfo.processInfo.environment,
        clock: @escaping @Sendable () -> Double = MonotonicClock.now
    ) {
        guard let path = environment["MEMORY_PRESSURE_WATCH"], path.hasPrefix("/"), path != "/dev/null" else {
            return nil
        }
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        let opened: Int32?
        switch info.st_mode & S_IFMT {
        case S_IFREG:
            (opened, isStream, events) = (open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), false, Int16(POLLPRI))
        case S_IFIFO:
            (opened, isStream, events) = (open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), true, Int16(POLLIN))
        case S_IFSOCK: (opened, isStream, events) = (Self.connect(path), true, Int16(POLLIN))
        default: return nil
        }
        guard let fd = opened, fd >= 0 else { return nil }
        if let text = environment["MEMORY_PRESSURE_WRITE"], let data = Data(base64Encoded: text) {
            guard data.withUnsafeBytes({ write(fd, $0.baseAddress, $0.count) }) == data.count else {
                close(fd)
                return nil
            }
        }
        self.path = path
        self.clock = clock
        state = Mutex((fd, nil))
    }

    deinit { if let fd = state.withLock({ $0.descriptor }) { close(fd) } }

    private static func connect(_ path: String) -> Int32? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard path.utf8.count < room else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { return nil }
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard connected == 0 else {
            close(fd)
            return nil
        }
        _ = fcntl(fd, F_SETFL, O_NONBLOCK)
        return fd
    }

    public var watched: [(descriptor: Int32, events: Int16)] {
        state.withLock { $0.descriptor.map { [($0, events)] } ?? [] }
    }

    public func ready(_ descriptor: Int32, events: Int16) {
        let now = clock()
        state.withLock { state in
            guard let fd = state.descriptor else { return }
            var ended = events & Int16(POLLERR | POLLNVAL) != 0
            if isStream, !ended {
                var bytes = [UInt8](repeating: 0, count: 256)
                ended = Glibc.read(fd, &bytes, bytes.count) == 0
            }
            if ended {
                close(fd)
                state.descriptor = nil
            } else {
                state.last = now
            }
        }
    }

    public func read() -> PressureReading {
        let (descriptor, last) = state.withLock { $0 }
        guard descriptor != nil else { return .unknown("\(path) has ended") }
        let isRecent = last.map { clock() - $0 < Self.hold } ?? false
        return PressureReading(
            level: isRecent ? .warning : .nominal,
            text: (isRecent ? "reports pressure" : "no event") + " (\(path))",
            until: isRecent ? last.map { $0 + Self.hold } : nil)
    }
}
