"""tokenization.py CTL CACHE OUT.json: MB of text a second, Ebb and Hugging Face tokenizers in turns, one thread each.

English, code and Chinese of 10 MB in texts of 64 KB, with the vocabularies of two models; the tokens are compared, too. Ebb
also says what a streamed token costs to decode, and what a single word of a megabyte does. ROUNDS (default 3) can be set.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../Tests/Tokenizers"))
import tokenizers  # noqa: E402
from vocabularies import byte_level, gguf, gpt2, qwen2  # noqa: E402

ctl, cache, out = sys.argv[1:4]
rounds = int(os.environ.get("ROUNDS", "3"))
folder = tempfile.TemporaryDirectory()
patterns = {"smollm2": ([r"\p{N}", gpt2], False), "qwen2": ([qwen2], True)}


def texts(name):
    data = open(f"{cache}/tokenizers/{name}.txt", encoding="utf-8", newline="").read()
    return [data[i:i + (1 << 16)] for i in range(0, len(data), 1 << 16)]


def ebb(model, lines):
    command = [ctl, "tokenize", model, "--models", folder.name, "--jsonl", "--measure"]
    return json.loads(subprocess.run(command, input=lines, check=True, capture_output=True, text=True).stdout)


def peer(tokenizer, parts):
    start = time.monotonic()
    found = tokenizer.encode_batch_fast(parts, add_special_tokens=False)
    return time.monotonic() - start, sum(len(e.ids) for e in found)


def lines(parts):
    return "".join(json.dumps({"text": part, "add_special": False}) + "\n" for part in parts)


report = []
print(f"{'MB/s':<20} {'ebb':>7} {'range':>13} {'tokenizers':>11} {'range':>13} {'x':>6} {'ns/token out':>13}"
      f"   (tokenizers {tokenizers.__version__}, 1 thread, {rounds} rounds)")
for model, (splits, compose) in patterns.items():
    path = f"{cache}/models/{model}.gguf"
    subprocess.run([ctl, "import", path, "--name", model, "--models", folder.name], check=True, capture_output=True)
    tokenizer = byte_level(gguf(path), splits, compose)
    for corpus in ["english", "code", "chinese"]:
        parts = texts(corpus)
        size, text = sum(len(part.encode()) for part in parts), lines(parts)
        ours, theirs, decoded = [], [], []
        for _ in range(rounds):
            mine = ebb(model, text)
            seconds, tokens = peer(tokenizer, parts)
            assert mine["tokens"] == tokens, f"{model}, {corpus}: {mine['tokens']} tokens, not {tokens}"
            ours.append(size / mine["encode_seconds"] / 1e6)
            theirs.append(size / seconds / 1e6)
            decoded.append(mine["decode_seconds"] / tokens * 1e9)
        a, b = statistics.median(ours), statistics.median(theirs)
        report.append({"model": model, "corpus": corpus, "ebb": ours, "tokenizers": theirs, "decode_ns": decoded})
        print(f"{model + ', ' + corpus:<20} {a:>7.1f} {min(ours):>5.1f}-{max(ours):<7.1f} {b:>11.1f} "
              f"{min(theirs):>5.1f}-{max(theirs):<7.1f} {a / b:>6.1f} {statistics.median(decoded):>13.0f}", flush=True)
    # One word: twice the letters, about twice the time.
    times = [min(ebb(model, lines(["abcdefghij" * (n * 52429)]))["encode_seconds"] for _ in range(rounds)) for n in (1, 2)]
    report.append({"model": model, "word_seconds": times})
    print(f"{model}: one word of 0.5 MB {times[0]:.3f} s, of 1 MB {times[1]:.3f} s", flush=True)
json.dump(report, open(out, "w"), indent=1)
