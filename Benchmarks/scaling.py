"""How decode scales: threads, sequences together, context, bytes of the model. scaling.py EBBCTL MODELS NAME...

Prints tables, and last a line of JSON. Figures are medians of three repetitions by `ebbctl bench`."""

import json
import os
import subprocess
import sys

ctl, models, names = sys.argv[1], sys.argv[2], sys.argv[3:]


def bench(name, *arguments):
    command = [ctl, "bench", name, "--json", "-r", "3", "--models", models, *map(str, arguments)]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return rows[0]["tokens_per_second"]


def limits(threads):
    return json.loads(subprocess.run([ctl, "bench", "--limits", "--json", "--threads", str(threads)],
                                     capture_output=True, text=True, check=True).stdout)


def read_bytes(name):
    """Bytes that a token reads: the layers' matrices and the head."""
    report = json.loads(subprocess.run([ctl, "inspect", name, "--json", "--models", models],
                                       capture_output=True, text=True, check=True).stdout)
    matrices = [t for t in report["tensors"] if t["k"] > 1]
    head = "output.weight" if any(t["name"] == "output.weight" for t in matrices) else "token_embd.weight"
    return sum(t["bytes"] for t in matrices if t["name"].startswith("blk.") or t["name"] == head)


cores = os.cpu_count() or 1
results = {"batch": {}, "context": {}, "bytes": {}}
for threads in sorted({1, cores}):
    limit = limits(threads)
    print(f"{threads} threads; limits: int8 {limit['int8_gops']:.0f} Gop/s, read {limit['read_gbps']:.1f} GB/s")
    for name in names:
        batches = {b: bench(name, "-p", 0, "-n", 32, "--threads", threads, "--parallel", b) for b in (1, 2, 4, 8, 16, 32)}
        results["batch"][f"{name} {threads}"] = batches
        print(f"  {name:<10} sequences together, t/s: " + "  ".join(f"{b}: {rate:.0f}" for b, rate in batches.items()),
              flush=True)
for name in names:
    rates = {}
    for depth in (0, 1024, 1900, 4096, 8000):
        try:
            rates[depth] = bench(name, "-p", 0, "-n", 32, "-d", depth)
        except subprocess.CalledProcessError:
            break  # beyond what the model was trained for
    results["context"][name] = rates
    ms = {d: 1000 / rate for d, rate in rates.items()}
    slope = [(ms[b] - ms[a]) / (b - a) * 1000 for a, b in zip(ms, list(ms)[1:])]
    print(f"{name:<10} context, ms a token: " + "  ".join(f"{d}: {value:.2f}" for d, value in ms.items())
          + "; ms for 1000 tokens more: " + ", ".join(f"{s:.2f}" for s in slope), flush=True)
limit = limits(cores)
for name in names:
    size, rate = read_bytes(name), results["batch"][f"{name} {cores}"][1]
    results["bytes"][name] = [size, rate]
    print(f"{name:<10} {size / 1e6:.0f} MB a token, {1000 / rate:.2f} ms: {size * rate / 1e9:.1f} GB/s, "
          f"{size * rate / 1e9 / limit['read_gbps']:.0%} of the read bandwidth")
print(json.dumps(results))
