"""table.py PREFIX N K: what count.c printed for PREFIX-now, PREFIX-before (if it is there) and PREFIX-peer, as a table."""

import os
import sys

prefix, n, k = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
FORMATS = ["Q4_0", "Q4_0/16", "Q4_K", "Q6_K", "Q8_0"]
ROWS = [1, 4, 8, 512]


def counts(name):
    """{(format, rows, kernels): (all, memory, vector)} per weight and row. A line of the program, then one of the plugin."""
    if not os.path.exists(name):
        return {}
    lines = open(name).read().split("\n")
    found = {}
    for label, numbers in zip(lines[::2], lines[1::2]):
        kind, rows, *kernels = label.split()
        found[kind, int(rows), *kernels] = [int(x) / (n * k * int(rows)) for x in numbers.split()]
    return found


now, before, peer = (counts(f"{prefix}-{name}") for name in ["now", "before", "peer"])
print(f"\n{os.path.basename(prefix)}: instructions per weight and row, [{n}, {k}]; loads and stores; vector instructions\n")
print("| format | rows | before | now | of it memory | vector | llama.cpp mapped | repacked | llama.cpp's best / now |")
print("|---|---|---|---|---|---|---|---|---|")
for rows in ROWS:
    for kind in FORMATS:
        # Their activations have one block for all weights: Q4_0/16 is their Q4_0.
        theirs = [peer.get((kind.split("/")[0], rows, kernels), [None])[0] for kernels in ["mapped", "repacked"]]
        ours = now[kind, rows]
        cells = [before.get((kind, rows), [None])[0], *ours, *theirs, min(x for x in theirs if x) / ours[0]]
        print(f"| {kind} | {rows} |", " | ".join("–" if x is None else f"{x:.3f}" for x in cells), "|")
