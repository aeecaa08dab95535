"""references.py MODELS OUT.jsonl: what Hugging Face tokenizers make of random texts.

For those of llama.cpp's vocabularies that come without expected tokens: the same vocabulary, patterns and normalizers. The
texts are drawn anew with SEED (default 1): all planes, marks, emoji sequences, white space of every kind.
"""
import glob
import json
import os
import random
import struct
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

folder, out = sys.argv[1:3]
rng = random.Random(int(os.environ.get("SEED", "1")))


def gguf(name):
    """The metadata of a GGUF file."""
    types = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(f"{folder}/ggml-vocab-{name}.gguf", "rb") as file:
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


def byte_level(data, patterns, compose):
    merges = [tuple(m.split(" ")) for m in data["merges"]]
    vocabulary = {token: i for i, token in reversed(list(enumerate(data["tokens"])))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [m for m in merges if all(p in vocabulary for p in (*m, "".join(m)))]))
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
    kept = [(t, s if kind in (1, 4, 5) else -1e9) for t, s, kind in zip(data["tokens"], data["scores"], data["token_type"])]
    tokenizer = Tokenizer(models.Unigram(kept, unk_id=data["unknown_token_id"]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(bytes(data["precompiled_charsmap"])), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)])
    return tokenizer


words = "the quick Fox can't they'll I'M 3.14 1234567 foo_bar() https://x.org/?a=b naïve Straße éclair e\u0301 中文字符 日本語 한국어 русский ไทย हिन्दी العربية 👩‍👩‍👧‍👦 🏳️‍🌈 x² ½ Ⅷ ﬁ \u00a0 \u3000 \t\t \n\n \r\n \u200b \u2028".split(" ")


def scalar():
    kind = rng.random()
    while True:
        value = (rng.randrange(32, 127) if kind < 0.4 else rng.randrange(0x250) if kind < 0.5 else
                 rng.randrange(0x300, 0x3000) if kind < 0.7 else rng.randrange(0x3000, 0x10000) if kind < 0.9 else
                 rng.randrange(0x110000))
        # Characters that newer versions of Unicode define would test whose tables are newer.
        if not 0xd800 <= value < 0xe000 and old(chr(value)):
            return chr(value)


def old(text):
    import unicodedata
    return unicodedata.ucd_3_2_0.category(text) != "Cn"


def texts(count):
    for _ in range(count):
        parts = [rng.choice(words) if rng.random() < 0.7 else "".join(scalar() for _ in range(rng.randrange(1, 8)))
                 for _ in range(rng.randrange(1, 12))]
        yield "".join(p + rng.choice(["", " ", " ", "  ", "\n"]) for p in parts)


gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
default = [r"[\p{P}\$\+<=>\^~\|]+", gpt2, r"\p{N}+", "[0-9][0-9][0-9]"]
given = "".join(sorted(open(p, encoding="utf-8", newline="").read() for p in glob.glob(f"{folder}/*.inp")))
given = sorted(set(given.split("\n__ggml_vocab_test__\n")))
makers = {
    "aquila": lambda: byte_level(gguf("aquila"), default, False),
    "gpt-neox": lambda: byte_level(gguf("gpt-neox"), default, False),
    "baichuan": lambda: sentence_piece(gguf("baichuan")),
    "nomic-bert-moe": lambda: unigram(gguf("nomic-bert-moe")),
}
with open(out + ".new", "w", encoding="utf-8") as file:
    for name, make in makers.items():
        tokenizer = make()
        for text in given + list(texts(400)):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            file.write(json.dumps({"vocabulary": name, "text": text, "ids": ids}) + "\n")
os.rename(out + ".new", out)
