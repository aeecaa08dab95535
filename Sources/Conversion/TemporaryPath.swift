import Foundation

/// Names that nobody else has, in the folder for temporary files.
enum TemporaryPath {
    static func new(_ ending: String = "") -> String {
        FileManager.default.temporaryDirectory.appendingPathComponent("ebb-\(UUID().uuidString)\(ending)").path
    }
}
