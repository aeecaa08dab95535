import Foundation

/// Where what `make test` fetches lies.
enum FetchedFiles {
    static var cache: String {
        let environment = ProcessInfo.processInfo.environment
        return (environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "") + "/.cache") + "/ebb"
    }

    /// llama.cpp's vocabularies and chat templates (scripts/fetch-llama).
    static var llamaModels: String { cache + "/llama.cpp/llama_cpp_python-0.3.36/vendor/llama.cpp/models" }
}
