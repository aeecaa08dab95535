import CEbbSystem
import Glibc
import Synchronization

/// A file mapped read-only. Its pages stay clean: the kernel may take them back at any time and read them again.
///
/// @unchecked Sendable: the mapping is never written and lives exactly as long as this object; what changes lies in a
/// mutex.
public final class MappedFile: @unchecked Sendable {
    /// The name for messages; where the file lies, but for one that is still being made.
    public let path: String
    public let bytes: UnsafeRawBufferPointer
    private let place: String
    private let opened: FileStamp
    private let guardNumber: Int32
    private let state: Mutex<State>

    private struct State {
        /// How the file looked when what is mapped was last known to be right; nil where it could have been written since
        /// without looking different.
        var accepted: FileStamp?
        var isDamaged = false
    }

    /// - Parameter name: for messages, where the file is to get another name than it has now.
    /// - Throws: ``FormatError`` if the file cannot be opened, is empty, or is not a regular file.
    public init(path: String, named name: String? = nil) throws {
        let (fd, info) = try RegularFile.open(path, named: name)
        defer { close(fd) }
        let size = Int(info.st_size)
        guard size > 0 else { throw FormatError("\(name ?? path) is empty") }
        guard let base = mmap(nil, size, PROT_READ, MAP_SHARED, fd, 0), base != MAP_FAILED else {
            throw FormatError.system("cannot map \(name ?? path)")
        }
        self.path = name ?? path
        place = path
        bytes = UnsafeRawBufferPointer(start: base, count: size)
        opened = FileStamp(info)
        state = Mutex(State(accepted: opened.isFinal() ? opened : nil))
        guardNumber = ebb_guard_add(base, size)
    }

    deinit {
        ebb_guard_remove(guardNumber)
        munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    }

    /// When the file was last written before it was opened, nanoseconds since 1970.
    public var modified: Int { opened.modified }

    /// What a look at the file says of it.
    public enum Look: Sendable, Equatable {
        /// As it was when what is mapped was last known to be right.
        case unchanged
        /// Its times have changed, or it was written too shortly ago to tell: only its bytes can say whether it is still
        /// the model.
        case touched
        /// It was cut short or written over: what the mapping holds is no longer the model.
        case damaged
        /// Its name is another file's, or nobody's; the mapping still holds the old one.
        case replaced
    }

    /// Whether a read has failed: pages beyond the file's new end read as zeros since then.
    public var isCutShort: Bool { ebb_guard_is_damaged(guardNumber) != 0 }

    /// Has reads of files that are cut short give zeros instead of ending the process, which is told by ``demandWhole()`` and
    /// ``isCutShort``.
    /// - Returns: whether the system lets it.
    @discardableResult public static func guardReads() -> Bool { ebb_guard_install() == 0 }

    /// Reads that have failed since then, of whatever file.
    static var readFailures: Int { Int(ebb_guard_failures()) }

    /// - Throws: ``FormatError`` where there have been more such reads than `known`.
    public static func demandWhole(known: Int = 0) throws {
        guard readFailures == known else {
            throw FormatError(
                "a file was cut short while it was being read: what was read of it is of no use; try again")
        }
    }

    /// Looks at the file's times and size, in microseconds; reads nothing of it.
    public func look() -> Look {
        if isCutShort || state.withLock({ $0.isDamaged }) { return .damaged }
        guard let now = FileStamp(of: place) else { return .replaced }
        return judge(now)
    }

    private func judge(_ now: FileStamp) -> Look {
        guard now.isSameFile(as: opened) else { return .replaced }
        guard now.size == opened.size else { return .damaged }
        return state.withLock { $0.accepted } == now ? .unchanged : .touched
    }

    /// Compares the bytes with what they were, and accepts the file as it looks now where they are the same.
    /// - Parameter isRight: reads the mapping and says whether it still holds what was opened.
    /// - Returns: what the file is after all; touched, where it is being written all the time.
    func recheck(_ isRight: () -> Bool) -> Look {
        for _ in 0..<3 {
            guard let before = FileStamp(of: place) else { return .replaced }
            let look = judge(before)
            guard look == .touched, !isCutShort else { return isCutShort ? .damaged : look }
            // A write within the same tick of the clock would leave the same times: wait until the next one shows.
            if !before.isFinal() { usleep(UInt32(FileStamp.tick / 1000)) }
            guard isRight(), !isCutShort else {
                state.withLock { $0.isDamaged = true }
                return .damaged
            }
            if FileStamp(of: place) == before, before.isFinal() {
                state.withLock { $0.accepted = before }
                return .unchanged
            }
        }
        return look()
    }

    /// Takes the mapping's pages out of RAM, as far as the kernel allows; they are read again when they are used.
    public func pageOut() {
        guard let base = UnsafeMutableRawPointer(mutating: bytes.baseAddress) else { return }
        // Only the owner of a file may page it out; everyone may let go of it.
        if ebb_page_out(base, bytes.count) != 0 { madvise(base, bytes.count, MADV_COLD) }
        madvise(base, bytes.count, MADV_DONTNEED)
    }
}

/// Which file a name stands for, and when it was last changed.
struct FileStamp: Equatable {
    private let device, inode: Int
    let size: Int
    /// Nanoseconds since 1970.
    let modified: Int
    private let changed: Int

    /// Nanoseconds in which a file may be written twice and get the same times: the kernel's coarse clock steps every
    /// 1 to 10 ms.
    static let tick = 20_000_000

    init(_ info: stat) {
        func time(_ spec: timespec) -> Int { spec.tv_sec &* 1_000_000_000 &+ spec.tv_nsec }
        (device, inode, size) = (Int(info.st_dev), Int(info.st_ino), Int(info.st_size))
        (modified, changed) = (time(info.st_mtim), time(info.st_ctim))
    }

    /// nil where there is no such file.
    init?(of path: String) {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        self.init(info)
    }

    func isSameFile(as other: FileStamp) -> Bool { device == other.device && inode == other.inode }

    /// Whether a later write would show. The time of change cannot be set by anyone, and every write moves it on.
    func isFinal() -> Bool {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let age = (now.tv_sec &* 1_000_000_000 &+ now.tv_nsec).subtractingReportingOverflow(changed).partialValue
        return age > Self.tick || age < -Self.tick
    }
}
