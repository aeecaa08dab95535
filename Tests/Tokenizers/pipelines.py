"""Tokenizers with every normalizer, pre-tokenizer, model, post-processor and decoder that a tokenizer.json may have and
Ebb reads, over small vocabularies that are trained on the spot."""
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

BEHAVIORS = ["isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"]


def trained(model, trainer, splitter, corpus):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(corpus, trainer)
    return json.loads(tokenizer.to_str())["model"]


def byte_level(corpus):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, show_progress=False)
    return trained(models.BPE(), trainer, pre_tokenizers.ByteLevel(False), corpus)


def textual(corpus):
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=special, limit_alphabet=200, show_progress=False)
    return trained(models.BPE(), trainer, pre_tokenizers.Metaspace("▁", "always", split=True), corpus)


def bpe(data, **options):
    return Tokenizer(models.BPE(data["vocab"], [tuple(m) for m in data["merges"]], **options))


def added(tokenizer, *normalized, words=True):
    """Tokens of each kind; those of `normalized` are looked for in normalized text."""
    tokenizer.add_special_tokens([
        AddedToken("<s>", normalized=False), AddedToken("</s>", normalized=False),
        AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<both>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer.add_tokens([AddedToken(text, normalized=True) for text in normalized])
    if words:
        tokenizer.add_tokens([AddedToken("word", single_word=True, normalized=True)])
    return tokenizer


def normalizing():
    n = normalizers
    return {
        "nfc": n.NFC(), "nfd": n.NFD(), "nfkc": n.NFKC(), "nfkd": n.NFKD(), "lowercase": n.Lowercase(), "nmt": n.Nmt(),
        "accents": n.Sequence([n.NFD(), n.StripAccents()]), "strip": n.Strip(), "strip-left": n.Strip(True, False),
        "strip-right": n.Strip(False, True), "replace": n.Replace("o", "00"), "regex": n.Replace(Regex(r"\s+|[0-9]{2}"), "_"),
        "remove": n.Replace(Regex(r"\p{M}"), ""), "prepend": n.Prepend("x "), "bert": n.BertNormalizer(),
        "bert-cased": n.BertNormalizer(lowercase=False, strip_accents=True, clean_text=False),
        "several": n.Sequence([n.NFKD(), n.Sequence([n.Lowercase(), n.Replace("ll", "L")]), n.Strip(), n.Prepend("<"), n.NFC()]),
    }


def splitting():
    p = pre_tokenizers
    out = {
        "digits": p.Digits(True), "numbers": p.Digits(False), "whitespace": p.Whitespace(), "words": p.WhitespaceSplit(),
        "bert": p.BertPreTokenizer(), "delimiter": p.CharDelimiterSplit("e"), "metaspace": p.Metaspace("▁", "always"),
        "metaspace-first": p.Metaspace("▁", "first"), "metaspace-never": p.Metaspace("_", "never"),
        "metaspace-whole": p.Metaspace("▁", "first", split=False),
        "metaspace-words": p.Sequence([p.WhitespaceSplit(), p.Metaspace("▁", "always")]),
        "punctuation-digits": p.Sequence([p.Punctuation("merged_with_next"), p.Digits(True), p.WhitespaceSplit()]),
    }
    for behavior in BEHAVIORS:
        out["punctuation-" + behavior] = p.Punctuation(behavior)
        for invert in [False, True]:
            name = f"split-{behavior}" + ("-inverted" if invert else "")
            out[name] = p.Split(Regex(r"[\s\p{P}]|[0-9]{1,3}(?!\p{L})"), behavior, invert)
            out[name + "-text"] = p.Split("e", behavior, invert)
    return out


def byte_pipelines(corpus):
    data = byte_level(corpus)
    for name, normalizer in normalizing().items():
        tokenizer = bpe(data)
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(name == "nfd")
        tokenizer.decoder = decoders.ByteLevel()
        yield "normalizer-" + name, added(tokenizer, "<Fox>", "LL", " é", "<left")
    for name, splitter in splitting().items():
        tokenizer = bpe(data, ignore_merges=name == "bert")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [splitter, pre_tokenizers.ByteLevel(name == "digits", use_regex=False)])
        tokenizer.decoder = decoders.ByteLevel()
        yield "pre-tokenizer-" + name, added(tokenizer)


def text_pipelines(corpus):
    data, n = textual(corpus), normalizers
    llama = dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = bpe(data, **llama)
    tokenizer.normalizer = n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", data["vocab"]["<s>"])])
    yield "bpe-llama", added(tokenizer, "<Fox>")
    for name, scheme, split, options in [
            ("first", "first", False, llama), ("always", "always", True, dict(unk_token="<unk>", byte_fallback=True)),
            ("unknown", "never", True, dict(unk_token="<unk>")), ("fused", "first", True, dict(unk_token="<unk>", fuse_unk=True)),
            ("dropped", "always", True, dict())]:
        tokenizer = bpe(data, **options)
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split)
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", scheme, split)])
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(), processors.BertProcessing(("</s>", data["vocab"]["</s>"]), ("<s>", data["vocab"]["<s>"]))])
        yield "bpe-metaspace-" + name, added(tokenizer)


def unigram_pipelines(corpus):
    p, n = pre_tokenizers, normalizers
    trainer = trainers.UnigramTrainer(
        vocab_size=2000, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False)
    # Its trainer wants every character to be a token; the others shall be unknown.
    given = ["".join(c for c in text if c < "\u0600" or "一" <= c < "丠") for text in corpus]
    data = trained(models.Unigram(), trainer, p.Metaspace("▁", "always"), given)
    for name, normalizer, splitter in [
            ("first", n.Sequence([n.Nmt(), n.NFKC(), n.Replace(Regex(" {2,}"), " ")]), p.Metaspace("▁", "first")),
            ("never", n.Sequence([n.Strip(), n.Lowercase()]), p.Metaspace("▁", "never")),
            ("whole", n.NFKD(), p.Metaspace("▁", "always", split=False)),
            ("stripped", n.Sequence([n.Strip(), n.Replace("T", ""), n.Replace(Regex("[a-m]{1,3}"), "w")]), p.Metaspace("▁", "first")),
            ("punctuation", None, p.Sequence([p.Punctuation(), p.Digits(True), p.Metaspace("▁", "always")])),
            ("bare", n.NFC(), None)]:
        tokenizer = Tokenizer(models.Unigram([tuple(pair) for pair in data["vocab"]], data["unk_id"]))
        if normalizer:
            tokenizer.normalizer = normalizer
        if splitter:
            tokenizer.pre_tokenizer = splitter
        yield "unigram-" + name, added(tokenizer, "<Fox>")
    # Behind those of the vocabulary, tokens for what it lacks.
    pairs = [tuple(pair) for pair in data["vocab"]] + [(f"<0x{byte:02X}>", 0.0) for byte in range(256)]
    for name, normalizer, splitter in [
            ("bytes", None, p.Metaspace("▁", "always")), ("bytes-whole", n.NFKC(), p.Metaspace("▁", "first", split=False))]:
        tokenizer = Tokenizer(models.Unigram(pairs, data["unk_id"], byte_fallback=True))
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = splitter
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", "always")])
        yield "unigram-" + name, added(tokenizer, "<Fox>")


def word_piece_pipelines(corpus):
    p, n = pre_tokenizers, normalizers
    special = ["[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    data = trained(models.WordPiece(unk_token="[UNK]"), trainer, p.BertPreTokenizer(), corpus)
    for name, normalizer, splitter in [
            ("whitespace", n.Sequence([n.NFKC(), n.Lowercase()]), p.Whitespace()),
            ("words", n.Sequence([n.BertNormalizer(), n.Replace("e", "a")]), p.WhitespaceSplit()),
            ("digits", n.NFKD(), p.Sequence([p.BertPreTokenizer(), p.Digits(True)]))]:
        tokenizer = Tokenizer(models.WordPiece(data["vocab"], unk_token="[UNK]", max_input_chars_per_word=20))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
        tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1), True, False)
        yield "word-piece-" + name, added(tokenizer, "<Fox>", words=False)


def pipelines(corpus):
    for make in [byte_pipelines, text_pipelines, unigram_pipelines, word_piece_pipelines]:
        yield from make(corpus)


def damaged(rng, count):
    """Bytes that are no UTF-8."""
    for _ in range(count):
        parts = [rng.choice([b"word ", "é".encode()[:1], "中文".encode()[:4], "👩".encode()[1:], b"\xff\xfe", b"\xed\xa0\x80", b"a", b" "])
                 if rng.random() < 0.6 else bytes(rng.randrange(256) for _ in range(rng.randrange(1, 6)))
                 for _ in range(rng.randrange(1, 10))]
        yield b"".join(parts)


def lines(rng, texts, folder):
    """What each makes of random texts, as lines of JSON; a text that is no UTF-8 is given as its bytes, and what `tokenizers`
    gets is the text with U+FFFD in their place."""
    corpus = list(texts(3000))
    drawn = [(text, None) for text in texts(150)] + [("", None), (" ", None), ("▁", None)]
    drawn += [(data.decode("utf-8", "replace"), data.hex()) for data in damaged(rng, 40)]
    for name, tokenizer in pipelines(corpus):
        tokenizer.save(f"{folder}/{name}.json")
        count = 1 + max(tokenizer.get_vocab().values())
        for text, data in drawn:
            if text.startswith("<s>"):
                continue  # Ebb puts no second BOS before it.
            ids = tokenizer.encode(text).ids
            decoded = tokenizer.decode(ids) if tokenizer.decoder else None
            yield json.dumps({"name": name, "count": count, "text": text, "bytes": data, "ids": ids, "decoded": decoded})


def characters():
    """What each step makes of single characters, where it changes them, and which characters each set has."""
    n, p = normalizers, pre_tokenizers
    values = [v for v in [*range(0x40000), *range(0xe0000, 0xe1000)] if not 0xd800 <= v < 0xe000]
    for name, step in {
            "nfc": n.NFC(), "nfd": n.NFD(), "nfkc": n.NFKC(), "nfkd": n.NFKD(), "lowercase": n.Lowercase(), "nmt": n.Nmt(),
            "drop_marks": n.StripAccents(), "strip_start": n.Strip(True, False),
            "clean_text": n.BertNormalizer(True, False, False, False),
            "separate_ideographs": n.BertNormalizer(False, True, False, False)}.items():
        changes = {v: [ord(c) for c in step.normalize_str(chr(v))] for v in values}
        yield {"step": name, "changes": {str(v): new for v, new in changes.items() if new != [v]}}
    for pattern, splitter in {
            r"\s": p.WhitespaceSplit(), r"\p{N}": p.Digits(), r"[\p{P}\$\+<=>\^`\|~]": p.Punctuation("removed"),
            r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]": p.Whitespace()}.items():
        # Between letters, a character of a set stands apart; one that words have belongs to the letters.
        split = [v for v in values if len(splitter.pre_tokenize_str("a" + chr(v) + "a")) > 1]
        yield {"pattern": pattern, "members": split if "Alphabetic" not in pattern else sorted(set(values) - set(split))}
