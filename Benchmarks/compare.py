"""Runs ebbctl bench and llama-bench in turns (A B A B …) and prints medians and their ratio."""
import json
import statistics
import subprocess
import sys

ctl, peer, threads, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


def run(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def ebb(name):
    rows = run([ctl, "bench", name, "--threads", threads, "-r", "1", "--json"])
    return {row["test"]: row["tokens_per_second"] for row in rows}


def llama(path):
    rows = run([peer, "-m", path, "-t", threads, "-p", "512", "-n", "64", "-r", "1", "-o", "json"])
    return {f"pp{r['n_prompt']}" if r["n_prompt"] else f"tg{r['n_gen']}": r["avg_ts"] for r in rows}


print(f"{'model':<14} {'test':<6} {'ebb t/s':>18} {'llama.cpp t/s':>18} {'ratio':>6}   ({threads} threads, {rounds} rounds)")
for pair in sys.argv[5:]:
    name, path = pair.split("=", 1)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(ebb(name))
        theirs.append(llama(path))
    for test in ours[0]:
        a, b = ([x[test] for x in side] for side in (ours, theirs))
        cell = lambda v: f"{statistics.median(v):.0f} ({min(v):.0f}-{max(v):.0f})"
        print(f"{name:<14} {test:<6} {cell(a):>18} {cell(b):>18} {statistics.median(a) / statistics.median(b):>6.2f}", flush=True)
