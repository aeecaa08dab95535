import Foundation

/// Loss against size over several files, as SVG.
public struct LossPlot {
    public struct Point: Sendable {
        public let label: String
        public let megabytes: Double
        public let loss: Double
        public init(label: String, megabytes: Double, loss: Double) {
            (self.label, self.megabytes, self.loss) = (label, megabytes, loss)
        }
    }

    private let points: [Point]
    private let title: String
    private let lossName: String

    private static let (width, height, left, right, top, bottom) = (800.0, 500.0, 90.0, 150.0, 50.0, 60.0)

    public init(title: String, lossName: String, points: [Point]) {
        (self.title, self.lossName, self.points) = (title, lossName, points)
    }

    /// The drawing; losses lie on a logarithmic axis.
    public var svg: String {
        let losses = points.map { max($0.loss, 1e-7) }
        let low = floor(log10(losses.min() ?? 1e-4))
        let high = max(low + 1, ceil(log10(losses.max() ?? 1)))
        let largest = (points.map(\.megabytes).max() ?? 1) * 1.1
        func x(_ megabytes: Double) -> Double {
            Self.left + megabytes / largest * (Self.width - Self.left - Self.right)
        }
        func y(_ loss: Double) -> Double {
            let share = (log10(max(loss, 1e-7)) - low) / (high - low)
            return Self.height - Self.bottom - share * (Self.height - Self.top - Self.bottom)
        }
        var parts = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"\(Int(Self.width))\" height=\"\(Int(Self.height))\" "
                + "font-family=\"sans-serif\" font-size=\"12\">",
            "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
            text(Self.width / 2, 28, title, anchor: "middle", size: 16),
            text((Self.left + Self.width - Self.right) / 2, Self.height - 16, "size, MB", anchor: "middle"),
            "<text transform=\"translate(22 \(Self.height / 2)) rotate(-90)\" text-anchor=\"middle\">"
                + "\(Self.escaped(lossName))</text>",
        ]
        for exponent in Int(low)...Int(high) {
            let at = y(pow(10, Double(exponent)))
            parts.append(line(Self.left, at, Self.width - Self.right, at))
            parts.append(text(Self.left - 8, at + 4, "1e\(exponent)", anchor: "end"))
        }
        for step in 0...5 {
            let megabytes = largest * Double(step) / 5
            parts.append(line(x(megabytes), Self.top, x(megabytes), Self.height - Self.bottom))
            let label = String(format: largest < 10 ? "%.1f" : "%.0f", megabytes)
            parts.append(text(x(megabytes), Self.height - Self.bottom + 18, label, anchor: "middle"))
        }
        for point in points {
            let (px, py) = (x(point.megabytes), y(point.loss))
            parts.append("<circle cx=\"\(px)\" cy=\"\(py)\" r=\"4\" fill=\"#1f5fa8\"/>")
            parts.append(text(px + 7, py - 5, point.label, anchor: "start"))
        }
        return (parts + ["</svg>", ""]).joined(separator: "\n")
    }

    private func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double) -> String {
        "<line x1=\"\(x1)\" y1=\"\(y1)\" x2=\"\(x2)\" y2=\"\(y2)\" stroke=\"#dddddd\"/>"
    }

    private func text(_ x: Double, _ y: Double, _ text: String, anchor: String, size: Int = 12) -> String {
        "<text x=\"\(x)\" y=\"\(y)\" text-anchor=\"\(anchor)\" font-size=\"\(size)\">\(Self.escaped(text))</text>"
    }

    private static func escaped(_ text: String) -> String {
        text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
            .replacingOccurrences(of: ">", with: "&gt;").replacingOccurrences(of: "\"", with: "&quot;")
    }
}
