/// Tells the channels of an answer apart while it streams.
///
/// Marks are no text, nor are up to two line ends before and after each: that is what templates write around them. Headers
/// of messages (`<|channel|>analysis<|message|>`) are no text either. All else comes out, once and in order, as soon as it
/// cannot be the beginning of a mark any more; what looks like a call and is none stays text of the tool-call channel.
/// A mark does not count where only another one can end what stands there: in a string of a call's JSON, in the value of a
/// parameter. Thinking begins before the answer, or with a control token. Within thinking the marks of calls count only as
/// control tokens.
///
/// What a byte costs depends on the format alone. A call is kept until it is complete, nothing else is.
public struct ChannelReader: Sendable {
    enum Place: Hashable {
        case answer, thinking, header, call
        case protected(Int)

        var channel: AnswerChannel {
            switch self {
            case .answer, .header: .answer
            case .thinking: .thinking
            case .call, .protected: .toolCall
            }
        }
    }

    private struct Written: Sendable {
        let byte: UInt8
        let isPrinted: Bool
        /// Belongs to the text of calls, printed or not.
        let isInner: Bool
    }

    /// Line ends that belong to a mark, at most, on each side.
    private static let markLines = 2

    private let format: ChannelFormat
    private let offersTools: Bool
    private let tools: OfferedTools
    private let reading: CallReading?
    /// Control tokens that belong to the text of a call.
    private let inner: [String]
    private let finders: [Place: MarkFinder]
    private var place: Place = .answer
    private var finder = MarkFinder([])
    /// What has not been given out.
    private var held: [Written] = []
    private var pieces: [ChannelPiece] = []
    /// Line ends that still belong to the last mark.
    private var lines = 0
    /// Bytes of the answer that are no line ends, to know its beginning.
    private var answered = 0
    private var bare: BareCallOpening?
    private var call = CallProgress()
    private var headerStart = 0

    /// - Parameters:
    ///   - prompt: the rendered prompt, whose end says whether the answer begins within thinking (a template that ends in
    ///     `<think>`). What a user wrote at its end says nothing.
    ///   - offersTools: the request had tools: calls are looked for only then.
    public init(_ format: ChannelFormat, prompt: MarkedText, offersTools: Bool) {
        self.init(format, prompt: prompt, offersTools: offersTools, OfferedTools([]))
    }

    /// The same for a request with these tools: where a format does not say whether `5` is a number or a string, their
    /// schemas do.
    public init(_ format: ChannelFormat, prompt: MarkedText, tools: [JSONValue]) {
        self.init(format, prompt: prompt, offersTools: !tools.isEmpty, OfferedTools(tools))
    }

    private init(_ format: ChannelFormat, prompt: MarkedText, offersTools: Bool, _ tools: OfferedTools) {
        self.format = format
        self.offersTools = offersTools
        self.tools = tools
        reading = format.calls.map { CallReading(grammar: $0.grammar, tools: tools) }
        inner = format.inner.filter { !$0.isEmpty }
        var places: [Place] = [.answer, .thinking, .header, .call]
        places += (format.calls?.grammar.protections ?? []).indices.map { .protected($0) }
        finders = Dictionary(
            uniqueKeysWithValues: places.map { ($0, MarkFinder(format.marks($0, offersTools: offersTools))) })
        let place = format.firstPlace(prompt)
        go(to: place)
        if place == .thinking { lines = Self.markLines }
        if place == .answer { bare = bareOpening(isFirst: true) }
    }

    /// What can be given out after some text.
    /// - Parameter isPrinted: false for the name of a special (control) token that is not part of the text, which may be a
    ///   mark.
    public mutating func append(_ text: String, isPrinted: Bool) -> [ChannelPiece] {
        let isInner = isPrinted || (!text.isEmpty && inner.contains { $0.contains(text) })
        for byte in text.utf8 { step(Written(byte: byte, isPrinted: isPrinted, isInner: isInner)) }
        emit(held.count - heldBack)
        return taken()
    }

    /// The rest: what was held back because it might have become a mark, and a call without an end.
    public mutating func finish() -> [ChannelPiece] {
        emit(held.count)
        if place == .call, format.calls?.bare == .always { give(reading?.callsAtEnd(call.text) ?? []) }
        call = CallProgress()
        return taken()
    }

    private mutating func taken() -> [ChannelPiece] {
        defer { pieces = [] }
        return pieces
    }
}

// MARK: A byte at a time

extension ChannelReader {
    private mutating func step(_ written: Written) {
        let byte = written.byte
        if place == .header { endLongHeader(before: byte) }
        if lines > 0 {
            lines = byte == UInt8(ascii: "\n") ? lines - 1 : 0
            if byte == UInt8(ascii: "\n") { return }
        }
        held.append(written)
        if place == .answer, byte != UInt8(ascii: "\n") { answered += 1 }
        if place.channel == .toolCall, written.isInner { call.text.append(byte) }
        if case .protected(let index) = place, isWithinQuote(index, byte) { return }
        if let mark = finder.step(byte) {
            perform(mark, isControl: !written.isPrinted)
        } else if place == .call {
            if written.isInner { followJSON(byte) }
        } else if bare != nil {
            followBareCall(byte)
        }
    }

    /// Whether a byte of a quote cannot end it. A line's end ends a quote that was never closed.
    private mutating func isWithinQuote(_ index: Int, _ byte: UInt8) -> Bool {
        guard let protections = format.calls?.grammar.protections, protections.indices.contains(index),
            protections[index].isQuote
        else { return false }
        if call.isEscaped {
            call.isEscaped = false
            return true
        }
        call.isEscaped = byte == UInt8(ascii: "\\")
        if byte == UInt8(ascii: "\n") { go(to: .call) }
        return call.isEscaped || byte == UInt8(ascii: "\n")
    }

    private mutating func perform(_ mark: ChannelMark, isControl: Bool) {
        if mark.onlyControl, !isControl { return }
        switch mark.action {
        // Behind an answer's words it is one of them.
        case .beginThinking: if isControl || answered == mark.count { leave(mark, for: .thinking) }
        case .endThinking: leave(mark, for: .answer)
        case .drop:
            answered -= min(mark.count, answered)
            leave(mark, for: .answer)
        case .endStray: if answered == mark.count { leave(mark, for: .answer) }
        case .beginCall: beginCall(mark)
        case .endCall: endCall(mark)
        case .completeCall: completeMarkedCall()
        case .beginHeader: beginHeader(mark)
        case .endHeader: endHeader(mark)
        case .protect(let index): protect(index)
        case .unprotect: go(to: .call)
        }
    }

    private mutating func go(to place: Place) {
        self.place = place
        finder = finders[place] ?? MarkFinder([])
        bare = nil
    }

    /// Gives out what stands before a mark, drops the mark.
    private mutating func leave(_ mark: ChannelMark, for place: Place) {
        held.removeLast(min(mark.count, held.count))
        held.removeLast(min(Self.markLines, lineEnds(before: held.count)))
        emit(held.count)
        go(to: place)
        lines = Self.markLines
    }

    private func lineEnds(before end: Int) -> Int {
        var count = 0
        while count < min(end, Self.markLines), held[end - count - 1].byte == UInt8(ascii: "\n") { count += 1 }
        return count
    }
}

// MARK: Calls

extension ChannelReader {
    private mutating func beginCall(_ mark: ChannelMark) {
        leave(mark, for: .call)
        call = CallProgress()
    }

    private mutating func protect(_ index: Int) {
        // Outside of an object, quotes are no strings.
        guard format.calls?.grammar.isJSON != true || call.isWithinObject else { return }
        call.isEscaped = false
        go(to: .protected(index))
    }

    private mutating func endCall(_ mark: ChannelMark) {
        call.text.removeLast(min(mark.count, call.text.count))
        let calls = format.calls?.callEnd == nil ? reading?.calls(call.text) ?? [] : []
        leave(mark, for: .answer)
        give(calls)
        call = CallProgress()
    }

    private mutating func completeMarkedCall() {
        emit(held.count)
        give(reading?.calls(call.text) ?? [])
        call = CallProgress()
    }

    /// Objects that are complete are calls. Where no mark ends calls, the value's end does; but what a header calls a call
    /// may be code, which goes on.
    private mutating func followJSON(_ byte: UInt8) {
        guard let calls = format.calls, calls.grammar.isJSON, call.follow(byte) else { return }
        if let (before, object) = call.takeObject() {
            let found = reading?.call(object, before: before, header: call.name)
            emit(held.count)
            give(found.map { [$0] } ?? [])
            guard found != nil || call.name == nil else { return }
        } else if !calls.isArray {
            return
        }
        let endsWithValue = calls.endsWithValue || call.isBare
        if endsWithValue, !calls.isArray || call.isOutsideOfArrays { endBareCalls() }
    }

    private mutating func endBareCalls() {
        emit(held.count)
        call = CallProgress()
        go(to: .answer)
        bare = bareOpening(isFirst: false)
    }

    private func bareOpening(isFirst: Bool) -> BareCallOpening? {
        switch format.calls?.bare {
        case .always? where offersTools: BareCallOpening(isFirst: isFirst)
        case .ofOfferedTools? where offersTools: BareCallOpening(isFirst: isFirst, of: tools)
        default: nil
        }
    }

    private mutating func followBareCall(_ byte: UInt8) {
        switch bare?.step(byte) {
        case .call:
            let opening = held
            held = []
            go(to: .call)
            call = CallProgress()
            call.isBare = true
            for written in opening { step(written) }
        case .text: bare = nil
        case .undecided, nil: break
        }
    }
}

// MARK: Headers

extension ChannelReader {
    private mutating func beginHeader(_ mark: ChannelMark) {
        emit(held.count - mark.count)
        go(to: .header)
        headerStart = held.count
    }

    private mutating func endHeader(_ mark: ChannelMark) {
        let end = max(headerStart, held.count - mark.count)
        let header = String(decoding: held[headerStart..<end].map(\.byte), as: UTF8.self)
        switch format.headers?.destination(header) {
        case .answer?: leaveHeader(for: .answer)
        case .thinking?: leaveHeader(for: .thinking)
        case .call(let name)?:
            // A header that is nothing but the name is where the call begins.
            if format.headers?.recipient.isEmpty == true { headCall() } else { leaveHeader(for: .call) }
            call = CallProgress()
            call.name = name
        case nil:
            emit(held.count)
            go(to: .answer)
        }
    }

    private mutating func headCall() {
        held.removeFirst(headerStart)
        go(to: .call)
        emit(held.count)
    }

    private mutating func leaveHeader(for place: Place) {
        held = []
        go(to: place)
        lines = Self.markLines
    }

    /// What is too long for a header, or goes over a line's end, is text.
    private mutating func endLongHeader(before byte: UInt8) {
        let isLineEnd = byte == UInt8(ascii: "\n") && format.headers?.end != "\n"
        // Text is cut between scalars.
        let isTooLong = held.count - headerStart > HeaderStyle.longest && byte & 0xc0 != 0x80
        guard isLineEnd || isTooLong else { return }
        emit(held.count)
        go(to: .answer)
    }
}

// MARK: Giving out

extension ChannelReader {
    /// How many bytes may still become part of a mark.
    private var heldBack: Int {
        if place == .header || bare != nil { return held.count }
        var most = lineEnds(before: held.count)
        for (count, takesLines) in finder.beginnings where count > 0 {
            let start = max(0, held.count - count)
            most = max(most, count + (takesLines ? lineEnds(before: start) : 0))
        }
        return min(most, held.count)
    }

    /// Gives out the first of what is held.
    private mutating func emit(_ count: Int) {
        guard count > 0 else { return }
        let channel = place.channel
        let bytes = held.prefix(count).lazy.filter { $0.isPrinted || (channel == .toolCall && $0.isInner) }.map(\.byte)
        let text = String(decoding: bytes, as: UTF8.self)
        held.removeFirst(count)
        guard !text.isEmpty else { return }
        if let last = pieces.last, last.channel == channel, last.call == nil {
            pieces[pieces.count - 1].text += text
        } else {
            pieces.append(ChannelPiece(channel: channel, text: text))
        }
    }

    /// Gives out calls that are complete, the first with the last of their text.
    private mutating func give(_ calls: [ToolCall]) {
        for call in calls {
            if let last = pieces.last, last.channel == .toolCall, last.call == nil {
                pieces[pieces.count - 1].call = call
            } else {
                pieces.append(ChannelPiece(channel: .toolCall, text: "", call: call))
            }
        }
    }
}
