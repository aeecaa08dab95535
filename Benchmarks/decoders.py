"""decoders.py CTL LLAMA_BENCH THREADS ROUNDS OUT.json NAME=FILE.gguf...: Ebb against llama.cpp, in turns (A B A B …).

For each model: prefill of 128, 512 and 2048 tokens, decode at an empty context and at 1024, the time from the start of a
process to its first token with the file in the page cache and without, and the memory of a process that has loaded the
model for 2048 tokens, and of one that has read them. Medians with their range; each beside the limit of this machine that
it runs into: the int8 peak for prefill, the read bandwidth for decode; and the ratio to ik_llama.cpp where its wheel is
installed in $EBB_MODELS/venv. NAME@PRECISION=FILE compares dequantized mode at
that precision with the weights of FILE (the same, as f32 or bf16), prefill of 512 tokens alone. Models must be imported
under NAME in $EBB_MODELS.
"""
import json
import os
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from machine import cpu_name, ik_rates, pinned, tensors, warn_of_others  # noqa: E402

ctl, peer, threads, rounds, out = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
models = os.environ["EBB_MODELS"]


def run(command, **options):
    """A command's output; bound to as many processors as it has threads."""
    command = [*pinned(int(threads)), *command]
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def ebb_rates(name):
    rates = {}
    for prompt in (128, 512, 2048):
        rows = json.loads(run([ctl, "bench", name, "--threads", threads, "-r", "1", "-p", str(prompt), "-n", "0", "--json"]))
        rates[f"pp{prompt}"] = rows[0]["tokens_per_second"]
    for depth in (0, 1024):
        rows = json.loads(run([ctl, "bench", name, "--threads", threads, "-r", "1", "-p", "0", "-n", "64", "-d", str(depth), "--json"]))
        rates[f"tg64 @ {depth}"] = rows[0]["tokens_per_second"]
    return rates


def peer_rates(path):
    rates = {}
    rows = json.loads(run([peer, "-m", path, "-t", threads, "-p", "128,512,2048", "-n", "0", "-r", "1", "-o", "json"]))
    rows += json.loads(run([peer, "-m", path, "-t", threads, "-p", "0", "-n", "64", "-d", "0,1024", "-r", "1", "-o", "json"]))
    for row in rows:
        rates[f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg64 @ {row['n_depth']}"] = row["avg_ts"]
    return rates


def other_rates(path):
    tests = {"pp128": "pp128", "pp512": "pp512", "pp2048": "pp2048", "tg64": "tg64 @ 0", "tg64@1024": "tg64 @ 1024"}
    rates = ik_rates(path, int(threads), list(tests), f"{models}/venv")
    return {tests[test]: rate for test, rate in rates.items() if test in tests}


def seconds(command, path, cold):
    """From the start of a process to the line that tells its first token."""
    fd = os.open(path, os.O_RDONLY)
    if cold:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    else:
        while os.read(fd, 1 << 24):
            pass
    os.close(fd)
    start = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdin.write(b'{"text":"Hello"}\n')
        process.stdin.close()
        if not process.stdout.readline():
            raise RuntimeError(f"{command[0]} gave no token")
        end = time.monotonic()
        process.stdout.read()
    return end - start


def resident(process):
    """Anonymous and file memory of a process, in bytes; empty when it has ended."""
    try:
        lines = [line.split() for line in open(f"/proc/{process.pid}/status")]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {line[0][:-1]: int(line[1]) * 1024 for line in lines if line[0] in ("RssAnon:", "RssFile:")}


def start(command):
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def memory(command):
    """The largest anonymous and file memory of a process, in bytes."""
    process = start(command)
    most = {"RssAnon": 0, "RssFile": 0}
    while process.poll() is None:
        for key, value in resident(process).items():
            most[key] = max(most[key], value)
        time.sleep(0.002)
    return most


def loaded_memory(command):
    """Anonymous memory of a process that generates, once it has stopped to grow by more than 1 MB in 0.2 s."""
    process = start(command)
    last, since = 0, time.monotonic()
    while process.poll() is None and time.monotonic() - since < 0.2:
        now = resident(process).get("RssAnon", last)
        if now < 1e6 or abs(now - last) > 1e6:
            last, since = now, time.monotonic()
        time.sleep(0.002)
    process.kill()
    process.wait()
    return last


def limits():
    report = json.loads(run([ctl, "bench", "--limits", "--threads", threads, "--json"]))
    return report


def dequantized(name, precision, path):
    """Prefill of 512 tokens in dequantized mode against the same weights as floats."""
    ours, theirs = [], []
    for _ in range(rounds):
        rows = json.loads(run([ctl, "bench", name, "--threads", threads, "-r", "1", "-p", "512", "-n", "0", "--json",
                               "--mode", "dequantized", "--precision", precision]))
        ours.append(rows[0]["tokens_per_second"])
        rows = json.loads(run([peer, "-m", path, "-t", threads, "-p", "512", "-n", "0", "-r", "1", "-o", "json"]))
        theirs.append(rows[0]["avg_ts"])
    a, b = statistics.median(ours), statistics.median(theirs)
    share = a * 2 * tensors(ctl, name, models)[0] / 1e9 / limit["float_gflops"]
    print(f"{name}, dequantized {precision}, pp512: ebb {a:.0f}, llama.cpp {b:.0f}, ratio {a / b:.2f}, "
          f"{share:.0%} of the f32 peak\n", flush=True)
    results["models"][f"{name}@{precision}"] = {"pp512": {"ebb": ours, "llama.cpp": theirs, "ratio": a / b}}


warn_of_others()
limit = limits()
print(f"{cpu_name()}, {os.environ.get('EBB_ISA', 'best instruction set')}")
print(f"limits, {threads} threads: int8 {limit['int8_gops']:.0f} Gop/s, float {limit['float_gflops']:.0f} Gflop/s, "
      f"read {limit['read_gbps']:.1f} GB/s\n")
results = {"threads": int(threads), "rounds": rounds, "limits": limit, "models": {}}
for pair in sys.argv[6:]:
    name, path = pair.split("=", 1)
    if "@" in name:
        dequantized(*name.split("@"), path)
        continue
    container = f"{models}/{name}.ebb"
    layer_weights, token_bytes = tensors(ctl, name, models)
    ours, theirs, others = [], [], []
    for _ in range(rounds):
        a, b = ebb_rates(name), peer_rates(path)
        others.append(other_rates(path))
        for cold in (False, True):
            key = "first token, cold, s" if cold else "first token, s"
            a[key] = seconds([ctl, "score", name, "--jsonl", "--greedy", "1", "--threads", threads], container, cold)
            b[key] = seconds([peer, "-m", path, "-t", threads, "-p", "1", "-n", "0", "-r", "1", "--no-warmup",
                               "-o", "jsonl"], path, cold)
        ours.append(a)
        theirs.append(b)
    mine = memory([ctl, "bench", name, "--threads", threads, "-p", "2048", "-n", "0", "-r", "1"])
    yours = memory([peer, "-m", path, "-t", threads, "-p", "2048", "-n", "0", "-r", "1"])
    loaded = [loaded_memory([ctl, "bench", name, "--threads", threads, "-p", "0", "-n", "2047", "-r", "1"]),
              loaded_memory([peer, "-m", path, "-t", threads, "-p", "0", "-n", "2047", "-r", "1"])]
    print(f"{name:<22} {'ebb':>20} {'llama.cpp':>20} {'ratio':>6} {'to ik':>6} {'of limit':>9}")
    table = {}
    for test in ours[0]:
        a, b = [x[test] for x in ours], [x[test] for x in theirs]
        ratio = statistics.median(a) / statistics.median(b)
        if test.startswith("first"):
            ratio = 1 / ratio
        share = None
        if test.startswith("pp"):
            share = statistics.median(a) * 2 * layer_weights / 1e9 / limit["int8_gops"]
        if test.startswith("tg"):
            share = statistics.median(a) * token_bytes / 1e9 / limit["read_gbps"]
        c = [x[test] for x in others if test in x]
        to_ik = statistics.median(a) / statistics.median(c) if c else None
        digits = 3 if test.startswith("first") else 0
        cell = lambda v: f"{statistics.median(v):.{digits}f} ({min(v):.{digits}f}-{max(v):.{digits}f})"
        print(f"{test:<22} {cell(a):>20} {cell(b):>20} {ratio:>6.2f} "
              f"{'' if to_ik is None else f'{to_ik:.2f}':>6} {'' if share is None else f'{share:.0%}':>9}", flush=True)
        table[test] = {"ebb": a, "llama.cpp": b, "ik_llama.cpp": c, "ratio": ratio, "of_limit": share}
    label = "loaded, anonymous MB"
    print(f"{label:<22} {loaded[0] / 1e6:>20.0f} {loaded[1] / 1e6:>20.0f} {loaded[1] / max(loaded[0], 1):>6.2f}")
    table[label] = {"ebb": loaded[0] / 1e6, "llama.cpp": loaded[1] / 1e6}
    for key, label in (("RssAnon", "anonymous MB"), ("RssFile", "of files MB")):
        print(f"{label:<22} {mine[key] / 1e6:>20.0f} {yours[key] / 1e6:>20.0f} {yours[key] / max(mine[key], 1):>6.2f}")
        table[label] = {"ebb": mine[key] / 1e6, "llama.cpp": yours[key] / 1e6}
    print(flush=True)
    results["models"][name] = table
json.dump(results, open(out, "w"), indent=1)
