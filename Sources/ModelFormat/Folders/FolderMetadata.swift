/// What a folder says of a model, under GGUF's keys.
struct FolderMetadata: Sendable {
    enum Value: Sendable {
        case count(UInt32), number(Float), text(String), flag(Bool), flags([Bool]), texts([String])
    }

    private var pairs: [(key: String, value: Value)] = []
    /// Goes before the keys that begin with a dot.
    let architecture: String

    init(architecture: String) {
        self.architecture = architecture
        self["general.architecture"] = .text(architecture)
    }

    /// A key that begins with a dot is one of the architecture's. nil changes nothing.
    subscript(key: String) -> Value? {
        get { pairs.first { $0.key == full(key) }?.value }
        set {
            guard let newValue else { return }
            let key = full(key)
            if let place = pairs.firstIndex(where: { $0.key == key }) {
                pairs[place].value = newValue
            } else {
                pairs.append((key, newValue))
            }
        }
    }

    mutating func remove(_ key: String) {
        let key = full(key)
        pairs.removeAll { $0.key == key }
    }

    private func full(_ key: String) -> String { key.hasPrefix(".") ? architecture + key : key }

    func encode(into metadata: inout MetadataEncoder, except: Set<String>) {
        for (key, value) in pairs where !except.contains(key) {
            switch value {
            case .count(let count): metadata.set(key, count)
            case .number(let number): metadata.set(key, number)
            case .text(let text): metadata.set(key, text)
            case .flag(let flag): metadata.set(key, flag)
            case .flags(let flags): metadata.set(key, flags)
            case .texts(let texts): metadata.set(key, texts)
            }
        }
    }
}
