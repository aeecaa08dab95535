"""Hugging Face tokenizers made of the vocabularies of GGUF files."""
import struct

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
qwen2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
         r"|\s+")
qwen35 = qwen2.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
llama3 = qwen2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
default = [r"[\p{P}\$\+<=>\^~\|]+", gpt2, r"\p{N}+", "[0-9][0-9][0-9]"]


def gguf(path):
    """The metadata of a GGUF file."""
    types = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as file:
        def read(kind):
            return struct.unpack("<" + kind, file.read(struct.calcsize("<" + kind)))[0]

        def value(kind):
            if kind == 8:
                return file.read(read("Q")).decode("utf-8")
            if kind == 9:
                element, count = read("I"), read("Q")
                return [value(element) for _ in range(count)]
            return read(types[kind])

        assert file.read(4) == b"GGUF"
        read("I"), read("Q")
        pairs = {}
        for _ in range(read("Q")):
            key = value(8)
            pairs[key] = value(read("I"))
        return {key.removeprefix("tokenizer.ggml."): v for key, v in pairs.items()}


def added(tokenizer, data):
    """Tokens of the kinds that are found in every text (4) are added; control tokens stay text."""
    kinds = data["token_type"]
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, kind in zip(data["tokens"], kinds) if kind == 4])
    return tokenizer


def byte_level(data, patterns, compose=False, ignore_merges=False):
    merges = [tuple(m.split(" ")) for m in data["merges"]]
    vocabulary = {token: i for i, token in reversed(list(enumerate(data["tokens"])))}
    merges = [m for m in merges if all(part in vocabulary for part in (*m, "".join(m)))]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=ignore_merges))
    splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits + [pre_tokenizers.ByteLevel(False, use_regex=False)])
    if compose:
        tokenizer.normalizer = normalizers.NFC()
    return added(tokenizer, data)


def sentence_piece(data):
    tokens, scores = data["tokens"], data["scores"]
    ids = {token: i for i, token in enumerate(tokens) if data["token_type"][i] != 3}
    merges = []
    for token, i in ids.items():
        pairs = [(token[:k], token[k:]) for k in range(1, len(token)) if token[:k] in ids and token[k:] in ids]
        merges += [(-scores[i], ids[a], ids[b], a, b) for a, b in pairs]
    merges.sort(key=lambda m: m[0])
    tokenizer = Tokenizer(models.BPE(ids, [m[3:] for m in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def unigram(data):
    kept = [(t, s if kind in (1, 4, 5) else -1000) for t, s, kind in zip(data["tokens"], data["scores"], data["token_type"])]
    tokenizer = Tokenizer(models.Unigram(kept, unk_id=data["unknown_token_id"]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(bytes(data["precompiled_charsmap"])), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)])
    return tokenizer


def json_files():
    """Tokenizers to save as tokenizer.json, by name: what the data of GGUF files allows."""
    split = lambda pattern: pre_tokenizers.Split(Regex(pattern), "isolated")
    bare = pre_tokenizers.ByteLevel(False, use_regex=False)
    splitters = {
        "byte-level": pre_tokenizers.ByteLevel(False),
        "split": pre_tokenizers.Sequence([split(llama3), bare]),
        "digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]),
        "several": pre_tokenizers.Sequence(
            [pre_tokenizers.Split("the", "isolated"), pre_tokenizers.Digits(False), split(r"\s+(?!\S)"), bare]),
    }
    for name, splitter in splitters.items():
        yield "bpe-" + name, "gpt-2", lambda data: bpe_json(data, splitter, name)
    for name, splitter in {
        "words": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "always")]),
        "metaspace": pre_tokenizers.Metaspace("▁", "always"),
    }.items():
        yield "unigram-" + name, "nomic-bert-moe", lambda data: unigram_json(data, splitter)


def bpe_json(data, splitter, name):
    tokenizer = byte_level(data, [], ignore_merges=name == "split")
    tokenizer.pre_tokenizer = splitter
    if name != "several":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([
        AddedToken("<s>", normalized=False), AddedToken("<left>", lstrip=True, normalized=False),
        AddedToken("<right>", rstrip=True, normalized=False), AddedToken("<both>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer.add_tokens([AddedToken("word", single_word=True, normalized=False)])
    ids = [("<s>", tokenizer.token_to_id("<s>")), ("<|endoftext|>", 50256)]
    single = "<s> $A <|endoftext|>" if name == "split" else "$A <|endoftext|>" if name == "digits" else "$A"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def unigram_json(data, splitter):
    tokenizer = unigram(data)
    tokenizer.pre_tokenizer = splitter
    tokenizer.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer
