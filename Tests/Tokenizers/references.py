"""references.py MODELS OUT.jsonl: what Hugging Face tokenizers make of random texts.

For llama.cpp's vocabularies, with the patterns and normalizers that the models' own tokenizers have. The texts are drawn anew with SEED (default 1): all planes, marks, emoji sequences, white space of every kind.
"""
import glob
import json
import os
import random
import re
import sys

import pipelines
from vocabularies import byte_level, default, gguf, gpt2, json_files, llama3, qwen2, qwen35, sentence_piece, unigram

folder, out = sys.argv[1:3]
rng = random.Random(int(os.environ.get("SEED", "1")))
vocabulary = lambda name: gguf(f"{folder}/ggml-vocab-{name}.gguf")


words = (
    "the quick Fox can't they'll I'M 3.14 1234567 foo_bar() https://x.org/?a=b naïve Straße éclair e\u0301 中文字符 日本語 "
    "한국어 русский ไทย हिन्दी العربية 👩‍👩‍👧‍👦 🏳️‍🌈 x² ½ Ⅷ ﬁ \u00a0 \u3000 \t\t \n\n \r\n \u200b \u2028 \ufffd "
    "<|endoftext|> <|im_start|> <s> <left> <right> <both> <mask> word '\u017f").split(" ")


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


def differs(normalizer, text):
    """Whether a table of replacements is asked for more than single characters: GGUF's readers then do as SentencePiece does,
    which takes the longest prefix, not as Hugging Face does, which looks at grapheme clusters. Or whether it leaves U+0085,
    where only Hugging Face splits."""
    single = "".join(normalizer.normalize_str(c) for c in text)
    return "\x85" in text or re.sub(" {2,}", " ", single) != normalizer.normalize_str(text)


given = "".join(sorted(open(p, encoding="utf-8", newline="").read() for p in glob.glob(f"{folder}/*.inp")))
given = sorted(set(given.split("\n__ggml_vocab_test__\n")))
makers = {
    "aquila": lambda: byte_level(vocabulary("aquila"), default),
    "gpt-neox": lambda: byte_level(vocabulary("gpt-neox"), default),
    "gpt-2": lambda: byte_level(vocabulary("gpt-2"), [gpt2]),
    "mpt": lambda: byte_level(vocabulary("mpt"), [gpt2], compose=True),
    "starcoder": lambda: byte_level(vocabulary("starcoder"), [r"\p{N}", gpt2]),
    "refact": lambda: byte_level(vocabulary("refact"), [r"\p{N}", gpt2]),
    "command-r": lambda: byte_level(vocabulary("command-r"), [r"\p{N}", gpt2], compose=True),
    "llama-bpe": lambda: byte_level(vocabulary("llama-bpe"), [llama3], ignore_merges=True),
    "qwen2": lambda: byte_level(vocabulary("qwen2"), [qwen2], compose=True),
    "qwen35": lambda: byte_level(vocabulary("qwen35"), [qwen35]),
    "baichuan": lambda: sentence_piece(vocabulary("baichuan")),
    "nomic-bert-moe": lambda: unigram(vocabulary("nomic-bert-moe")),
}
with open(out + ".new", "w", encoding="utf-8") as file:
    for name, make in makers.items():
        tokenizer = make()
        for text in given + list(texts(300)):
            if name == "nomic-bert-moe" and differs(tokenizer.normalizer, text):
                continue
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            file.write(json.dumps({"vocabulary": name, "text": text, "ids": ids}) + "\n")
    for name, source, make in json_files():
        tokenizer = make(vocabulary(source))
        os.makedirs(f"{os.path.dirname(out)}/{name}", exist_ok=True)
        tokenizer.save(f"{os.path.dirname(out)}/{name}/tokenizer.json")
        for text in given + list(texts(300)):
            if text.startswith("<s>"):
                continue  # Ebb puts no second BOS before it.
            ids = tokenizer.encode(text).ids
            file.write(json.dumps({"vocabulary": name, "text": text, "ids": ids}) + "\n")
pipes = f"{os.path.dirname(out)}/pipelines"
os.makedirs(pipes, exist_ok=True)
with open(pipes + "/lines.jsonl", "w", encoding="utf-8") as file:
    for line in pipelines.lines(rng, texts, pipes):
        file.write(line + "\n")
with open(pipes + "/characters.jsonl", "w", encoding="utf-8") as file:
    for line in pipelines.characters():
        file.write(json.dumps(line) + "\n")
os.rename(out + ".new", out)
