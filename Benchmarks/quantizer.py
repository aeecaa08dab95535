"""quantizer.py CTL MODEL REFERENCE: speed and quality of ebbctl quantize on MiniLM.

Speed: MB of f32 a second, beside what a plain copy (import) of the same folder takes in the same run. Quality: the mean
cosine of the reference sentences' embeddings over widths, blocks and methods, in both modes, with the file's size; GPTQ is
calibrated on every second sentence. TABLE=0 leaves the table out. The last lines are JSON.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ctl, model, reference = sys.argv[1:4]
items = json.load(open(reference))["items"]
texts = "".join(json.dumps({"text": item["text"]}) + "\n" for item in items)
folder = tempfile.TemporaryDirectory()
out, calibration = folder.name + "/out.ebb", folder.name + "/calibration.jsonl"
open(calibration, "w").write("".join(json.dumps({"text": i["text"]}) + "\n" for i in items[::2] if i["text"]))
os.environ["EBB_MODELS"] = folder.name


def run(*arguments, **options):
    return subprocess.run([ctl, *arguments], check=True, capture_output=True, text=True, **options).stdout


def quantize(bits, block, method):
    extra = ["--calibration", calibration] if method == "gptq" else []
    return json.loads(run("quantize", model, "-o", out, "--force", "--json", "--weight-bits", str(bits), "--block",
                          str(block), "--method", method, *extra))


def cosine(mode):
    lines = run("embed", out, "--jsonl", "--mode", mode, input=texts).splitlines()
    total = 0.0
    for item, line in zip(items, lines):
        a, b = item["embedding"], json.loads(line)["embedding"]
        dot, aa, bb = (sum(x * y for x, y in zip(u, v)) for u, v in ((a, b), (a, a), (b, b)))
        total += dot / (aa * bb) ** 0.5
    return total / len(items)


copies = []
for _ in range(3):
    start = time.monotonic()
    run("import", model, "--name", "copy", "--force")
    copies.append(time.monotonic() - start)
speed = {}
print(f"{'method':<8} {'s':>7} {'MB of f32/s':>12} {'of a copy':>10}   (4 bit, block 32; medians of 3)")
for method in ["minmax", "mse", "hqq", "gptq"]:
    made = [quantize(4, 32, method) for _ in range(3)]
    seconds = statistics.median(m["seconds"] for m in made)
    rate = made[0]["float_bytes"] / seconds / 1e6
    speed[method] = {"seconds": seconds, "mb_per_second": rate, "of_a_copy": statistics.median(copies) / seconds}
    print(f"{method:<8} {seconds:>7.2f} {rate:>12.0f} {speed[method]['of_a_copy']:>9.0%}", flush=True)

rows = []
if os.environ.get("TABLE", "1") != "0":
    print(f"\n{'bits':>4} {'block':>5} {'method':<7} {'MB':>6} {'dequantized':>12} {'memory_low':>11}")
    for bits in [8, 6, 5, 4, 3, 2]:
        for block in [-1, 128, 64, 32]:
            for method in ["minmax", "hqq", "gptq"]:
                made = quantize(bits, block, method)
                row = {"bits": bits, "block": block, "method": method, "bytes": made["bytes"],
                       "dequantized": cosine("dequantized"), "memory_low": cosine("memory_low")}
                rows.append(row)
                print(f"{bits:>4} {block:>5} {method:<7} {made['bytes'] / 1e6:>6.2f} {row['dequantized']:>12.4f} "
                      f"{row['memory_low']:>11.4f}", flush=True)
print(json.dumps({"speed": speed, "table": rows}))
