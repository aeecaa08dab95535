import Glibc
import ModelFormat

/// A float32 array [rows, columns] in NumPy's format 1.0 (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html),
/// written row by row; the shape is filled in at the end.
final class NPYWriter {
    private let path: String
    private let file: UnsafeMutablePointer<FILE>
    private var rows = 0
    private var columns = 0

    init(path: String) throws {
        guard let file = fopen(path, "wb") else { throw FormatError.system("cannot create \(path)") }
        self.path = path
        self.file = file
        try writeHeader()
    }

    deinit { fclose(file) }

    func append(_ row: UnsafeMutableBufferPointer<Float>) throws {
        columns = row.count
        rows += 1
        guard fwrite(row.baseAddress, 4, row.count, file) == row.count else {
            throw FormatError.system("cannot write \(path)")
        }
    }

    func finish() throws {
        guard fseek(file, 0, SEEK_SET) == 0 else { throw FormatError.system("cannot write \(path)") }
        try writeHeader()
        guard fflush(file) == 0 else { throw FormatError.system("cannot write \(path)") }
    }

    private func writeHeader() throws {
        var text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rows), \(columns)), }"
        text += String(repeating: " ", count: 117 - text.utf8.count) + "\n"
        let bytes: [UInt8] = [0x93] + "NUMPY".utf8 + [1, 0, 118, 0] + text.utf8
        guard fwrite(bytes, 1, bytes.count, file) == bytes.count else {
            throw FormatError.system("cannot write \(path)")
        }
    }
}
