// swift-tools-version: 6.1
import PackageDescription

let swift: [SwiftSetting] = [.swiftLanguageMode(.v6)]

func layer(_ name: String, _ dependencies: [Target.Dependency] = [], settings: [SwiftSetting] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: swift + settings)
}

/// Tests see what is internal in release builds, too, which are what is tested.
let testable: SwiftSetting = .unsafeFlags(["-enable-testing"], .when(configuration: .release))

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: swift)
}

let nio: [Target.Dependency] = [
    .product(name: "NIOCore", package: "swift-nio"),
    .product(name: "NIOPosix", package: "swift-nio"),
]
let ordered: Target.Dependency = .product(name: "OrderedCollections", package: "swift-collections")
let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let unixSignals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")

let package = Package(
    name: "ebb",
    products: [
        .library(name: "EbbClient", targets: ["EbbClient"]),
        .executable(name: "ebbd", targets: ["ebbd"]),
        .executable(name: "ebbctl", targets: ["ebbctl"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // Shims and arithmetic in C.
        // The folder is CSystem; swift-system already has a target of that name.
        .target(name: "CEbbSystem", path: "Sources/CSystem", linkerSettings: [.linkedLibrary("systemd")]),
        // Lines are what one wants of the kernels; all else that -g writes takes a third of their time to compile.
        .target(
            name: "CKernels",
            cSettings: [
                .headerSearchPath("."), .unsafeFlags(["-Xclang", "-debug-info-kind=line-tables-only"]),
            ]),
        // Layers, from the bottom up.
        layer("Quantization", ["CKernels"]),
        layer("ModelFormat", ["CEbbSystem", "CKernels", "Quantization"], settings: [testable]),
        layer("Text", ["ModelFormat", ordered], settings: [testable]),
        layer("Engine", ["CKernels", "CEbbSystem", "Quantization", "ModelFormat", "Text"]),
        layer("Measuring", ["CKernels", "Quantization", "Engine"]),
        layer("Conversion", ["CKernels", "Quantization", "ModelFormat", "Text", "Engine", "Measuring"]),
        layer("Governor", ["CEbbSystem"]),
        layer("EbbProtocol", [.product(name: "SwiftProtobuf", package: "swift-protobuf")] + nio),
        layer("EbbClient", ["EbbProtocol"] + nio),
        layer(
            "Service",
            [
                "CEbbSystem", "EbbProtocol", "Engine", "Measuring", "Governor", "ModelFormat", "Text", ordered, log,
                lifecycle,
            ] + nio,
            settings: [testable]),
        // Programs.
        .executableTarget(
            name: "ebbd",
            dependencies: [
                "Service", "CEbbSystem", "EbbProtocol", "Engine", "Governor", "ModelFormat", arguments, log, lifecycle,
                unixSignals,
            ],
            swiftSettings: swift),
        .executableTarget(
            name: "ebbctl",
            dependencies: [
                "EbbClient", "EbbProtocol", "Conversion", "Engine", "Measuring", "ModelFormat", "Quantization", "Text",
                ordered, arguments, unixSignals,
            ],
            swiftSettings: swift),
        .executableTarget(
            name: "client-example", dependencies: ["EbbClient"], path: "Examples/client-example",
            swiftSettings: swift),
        // Tests, a target for each layer.
        .target(
            name: "TestKit", dependencies: ["ModelFormat", "Quantization", "CKernels"], path: "Tests/TestKit",
            swiftSettings: swift),
        tests("CKernelsTests", ["CKernels", "Quantization", "TestKit"]),
        tests("QuantizationTests", ["Quantization", "TestKit"]),
        tests(
            "ConversionTests", ["Conversion", "Engine", "ModelFormat", "Quantization", "TestKit"],
            resources: [.copy("Reference")]),
        tests("ModelFormatTests", ["ModelFormat", "Quantization", "TestKit"], resources: [.copy("Reference")]),
        tests("TextTests", ["Text", "ModelFormat", "TestKit"], resources: [.copy("Reference")]),
        tests(
            "EngineTests", ["Engine", "Measuring", "ModelFormat", "Text", "TestKit"], resources: [.copy("Reference")]),
        tests("GovernorTests", ["Governor", "TestKit"]),
        tests("EbbProtocolTests", ["EbbProtocol"] + nio),
        tests(
            "ServiceTests",
            [
                "Service", "Conversion", "EbbClient", "EbbProtocol", "Engine", "Governor", "ModelFormat", "Text",
                "TestKit", log,
            ]),
        tests("ProgramTests", ["Conversion", "EbbClient", "EbbProtocol", "ModelFormat", "TestKit"]),
        // Fuzzing: what reads outside data, as functions; and its corpus and findings as tests.
        .target(
            name: "FuzzTargets",
            dependencies: [
                "Conversion", "EbbProtocol", "Engine", "ModelFormat", "Quantization", "Service", "TestKit", "Text",
            ] + nio,
            path: "Tests/Fuzz/Targets", swiftSettings: swift),
        .testTarget(
            name: "FuzzTests", dependencies: ["FuzzTargets"], path: "Tests/Fuzz/Replay", swiftSettings: swift),
    ]
)

// The program has its main from libFuzzer: it links with --sanitize=fuzzer alone (scripts/fuzz).
if Context.environment["EBB_FUZZ"] != nil {
    package.targets.append(
        .executableTarget(
            name: "ebb-fuzz", dependencies: ["FuzzTargets"], path: "Tests/Fuzz/Program", swiftSettings: swift))
}

// Under a sanitizer (scripts/sanitize) a build need not have all tests: EBB_TESTS names those that it has.
if let names = Context.environment["EBB_TESTS"]?.split(separator: " ").map(String.init) {
    package.targets.removeAll { $0.type == .test && !names.contains($0.name) }
}
