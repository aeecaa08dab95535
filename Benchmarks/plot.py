"""plot.py RESULTS.json OUT.svg: the ratios of decoders.py as bars."""
import json
import sys

results = json.load(open(sys.argv[1]))
rows = [(f"{model} {test}", entry["ratio"]) for model, table in results["models"].items()
        for test, entry in table.items() if "ratio" in entry]
step, left, width = 22, 240, 900
largest = max(ratio for _, ratio in rows) * 1.1
x = lambda ratio: left + ratio / largest * (width - left - 60)
parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{len(rows) * step + 50}" '
         f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
         f'<text x="{left}" y="20" font-size="15">Ebb against llama.cpp, {results["threads"]} threads '
         f'(longer is better; the line is equality)</text>']
for index, (label, ratio) in enumerate(rows):
    y = 35 + index * step
    parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{label}</text>')
    parts.append(f'<rect x="{left}" y="{y}" width="{x(ratio) - left:.1f}" height="{step - 6}" fill="#1f5fa8"/>')
    parts.append(f'<text x="{x(ratio) + 5:.1f}" y="{y + 13}">{ratio:.2f}</text>')
parts.append(f'<line x1="{x(1):.1f}" y1="30" x2="{x(1):.1f}" y2="{35 + len(rows) * step}" stroke="#c03030"/></svg>\n')
open(sys.argv[2], "w").write("\n".join(parts))
