/// How a model marks thinking and tool calls.
public struct ChannelFormat: Sendable {
    var thinking: ThinkingStyle?
    var calls: CallStyle?
    var headers: HeaderStyle?
    /// Marks around the answer itself.
    var dropped: [String] = []

    /// Texts of marks that are control tokens in some vocabularies and belong to the text of a call.
    var inner: [String] {
        guard let calls else { return [] }
        return calls.opens + calls.closes + calls.inner + calls.grammar.inner + [calls.callEnd ?? ""]
    }

    /// What may stand in each place.
    /// - Parameter offersTools: without tools nothing is a call: a model that writes about the marks writes an answer.
    func marks(_ place: ChannelReader.Place, offersTools: Bool) -> [ChannelMark] {
        switch place {
        case .answer: answerMarks(offersTools ? calls?.opens ?? [] : [])
        case .thinking: thinkingMarks(offersTools ? calls?.opens ?? [] : [])
        case .header: headers.map { [ChannelMark($0.end, .endHeader)] } ?? []
        case .call: callMarks
        case .protected(let index):
            calls.flatMap { $0.grammar.protections.indices.contains(index) ? $0.grammar.protections[index] : nil }
                .map { [ChannelMark($0.close, .unprotect)] } ?? []
        }
    }

    private func answerMarks(_ callOpens: [String]) -> [ChannelMark] {
        var marks = (thinking?.opens ?? []).map { ChannelMark($0, .beginThinking) }
        marks += (thinking?.closes ?? []).filter { !dropped.contains($0) }.map { ChannelMark($0, .endStray) }
        marks += callOpens.map { ChannelMark($0, .beginCall) }
        marks += (headers?.opens ?? []).map { ChannelMark($0, .beginHeader) }
        return marks + (dropped + (headers?.messageEnds ?? [])).map { ChannelMark($0, .drop) }
    }

    private func thinkingMarks(_ callOpens: [String]) -> [ChannelMark] {
        var marks = ((thinking?.closes ?? []) + (headers?.messageEnds ?? [])).map { ChannelMark($0, .endThinking) }
        // In words, a model may think about its marks; as control tokens they are ones.
        marks += callOpens.map { ChannelMark($0, .beginCall, onlyControl: true) }
        return marks + (headers?.opens ?? []).map { ChannelMark($0, .beginHeader) }
    }

    private var callMarks: [ChannelMark] {
        guard let calls else { return [] }
        var marks = (calls.closes + (headers?.messageEnds ?? [])).map { ChannelMark($0, .endCall) }
        if let end = calls.callEnd { marks.append(ChannelMark(end, .completeCall)) }
        for (index, protection) in calls.grammar.protections.enumerated() {
            marks.append(ChannelMark(protection.open, .protect(index)))
        }
        return marks + (headers?.opens ?? []).map { ChannelMark($0, .beginHeader) }
    }
}

extension ChannelFormat {
    /// Where an answer begins: what a template wrote at the prompt's very end says so.
    func firstPlace(_ prompt: MarkedText) -> ChannelReader.Place {
        let bytes = Array(prompt.text.utf8)
        guard let last = prompt.trusted.last, last.upperBound >= bytes.count, bytes.indices.contains(last.lowerBound)
        else { return .answer }
        let tail = bytes[last.lowerBound...]
        if let headers, headers.promptEnds.contains(where: { tail.ends(with: $0) }) { return .header }
        var text = tail
        while let byte = text.last, byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") { text.removeLast() }
        if let thinking, thinking.opens.contains(where: { text.ends(with: $0) }) { return .thinking }
        return .answer
    }
}

extension ArraySlice<UInt8> {
    fileprivate func ends(with text: String) -> Bool {
        !text.isEmpty && suffix(text.utf8.count).elementsEqual(text.utf8)
    }
}
