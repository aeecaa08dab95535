"""embeddings.py CTL MODEL REFERENCE OUT.json: MiniLM's embeddings a second, Ebb and onnxruntime in turns.

Batches of 16 texts of 128 tokens. ROUNDS (default 5) and THREADS (default 2) can be set. Needs onnx, onnxruntime, numpy.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

import bert_onnx

ctl, model, reference, out = sys.argv[1:5]
rounds, threads = int(os.environ.get("ROUNDS", "5")), int(os.environ.get("THREADS", "2"))
batch, length = 16, 128
folder = tempfile.TemporaryDirectory()
path = lambda name: os.path.join(folder.name, name)
items = json.load(open(reference))["items"]


def run(*arguments, **options):
    return subprocess.run([ctl, *arguments], check=True, capture_output=True, text=True, **options).stdout


def session(name):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path(name), options, providers=["CPUExecutionProvider"])


def onnx_rate(s):
    ids = np.array([[(i * 7919 + t * 104729 + 13) % 30522 for i in range(length)] for t in range(batch)])
    feed = {"ids": ids, "positions": np.tile(np.arange(length), (batch, 1))}
    s.run(None, feed)
    start, done = time.monotonic(), 0
    while time.monotonic() - start < 1:
        s.run(None, feed)
        done += batch
    return done / (time.monotonic() - start)


def onnx_cosine(s):
    total = 0
    for item in items:
        ids = np.array([item["ids"]])
        e = s.run(None, {"ids": ids, "positions": np.arange(ids.shape[1])[None]})[0][0]
        total += float(np.dot(e, item["embedding"]) / np.linalg.norm(e) / np.linalg.norm(item["embedding"]))
    return total / len(items)


def ebb_rate(name, mode):
    rows = json.loads(run("bench", name, "--batch", str(batch), "--length", str(length), "-r", "1", "--threads",
                          str(threads), "--mode", mode, "--json"))
    return rows[0]["texts_per_second"]


def ebb_cosine(name, mode):
    texts = "".join(json.dumps({"text": item["text"]}) + "\n" for item in items)
    found = [json.loads(line)["embedding"] for line in run("embed", name, "--jsonl", "--mode", mode, input=texts).splitlines()]
    return statistics.mean(float(np.dot(a, i["embedding"]) / np.linalg.norm(a)) for a, i in zip(found, items))


bert_onnx.build(model, path("fp32.onnx"))
quantize_dynamic(path("fp32.onnx"), path("int8.onnx"), weight_type=QuantType.QInt8)
run("import", model, "--name", "fp32", "--models", folder.name)
calibration = path("lines.jsonl")
open(calibration, "w").write("".join(json.dumps({"text": i["text"]}) + "\n" for i in items[::2] if i["text"]))
run("quantize", path("fp32.ebb"), "-o", path("eight.ebb"), "--weight-bits", "8", "--symmetric", "--block", "32")
run("quantize", path("fp32.ebb"), "-o", path("channel.ebb"), "--weight-bits", "8", "--symmetric", "--block", "-1")
run("quantize", path("fp32.ebb"), "-o", path("four.ebb"), "--weight-bits", "4", "--hqq")
run("calibrate", path("fp32.ebb"), "--data", calibration, "-o", path("c.json"))
run("quantize", path("fp32.ebb"), "-o", path("int8.ebb"), "--full-int8", path("c.json"))
fp32, int8 = session("fp32.onnx"), session("int8.onnx")
contenders = {
    "onnxruntime fp32": (lambda: onnx_rate(fp32), lambda: onnx_cosine(fp32)),
    "onnxruntime dynamic int8": (lambda: onnx_rate(int8), lambda: onnx_cosine(int8)),
}
for label, name, mode in [("ebb fp32", "fp32.ebb", "dequantized"), ("ebb 8 bit, block 32", "eight.ebb", "memory_low"),
                          ("ebb 8 bit, channel", "channel.ebb", "memory_low"),
                          ("ebb 4 bit, block 32", "four.ebb", "memory_low"), ("ebb full INT8", "int8.ebb", "memory_low")]:
    contenders[label] = (lambda n=name, m=mode: ebb_rate(path(n), m), lambda n=name, m=mode: ebb_cosine(path(n), m))
rates = {label: [] for label in contenders}
for _ in range(rounds):
    for label, (rate, _) in contenders.items():
        rates[label].append(rate())
base, rival = (statistics.median(rates[f"onnxruntime {kind}"]) for kind in ("fp32", "dynamic int8"))
print(f"{'MiniLM, 16 x 128':<26} {'texts/s':>8} {'range':>12} {'x fp32':>7} {'x int8':>7} {'cosine':>7}"
      f"   ({threads} threads, {rounds} rounds)")
report = []
for label, values in rates.items():
    median, cosine = statistics.median(values), contenders[label][1]()
    report.append({"name": label, "texts_per_second": values, "median": median, "x_onnxruntime_fp32": median / base,
                   "x_onnxruntime_int8": median / rival, "cosine": cosine})
    print(f"{label:<26} {median:>8.1f} {min(values):>5.0f}-{max(values):<6.0f} {median / base:>7.2f} "
          f"{median / rival:>7.2f} {cosine:>7.4f}", flush=True)
json.dump(report, open(out, "w"), indent=1)
