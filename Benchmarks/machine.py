"""What the comparisons share: the machine they run on, how Ebb and its peers are asked for a rate, and what a step reads."""
import json
import os
import pathlib
import statistics
import subprocess
import time


def cpu_name():
    """As /proc/cpuinfo has it; ARM tells numbers only."""
    fields = {}
    for line in open("/proc/cpuinfo"):
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name") or f"implementer {fields.get('CPU implementer')}, part {fields.get('CPU part')}"
    # Virtual machines have names that many CPUs share.
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


def processors():
    """Numbers of those that may be used, one a core first, then the other hyper-threads."""
    first, others, seen = [], [], set()
    for number in sorted(os.sched_getaffinity(0)):
        try:
            siblings = open(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").read()
        except OSError:
            siblings = str(number)
        (others if siblings in seen else first).append(number)
        seen.add(siblings)
    return first + others


def others():
    """The share of the processors that other programs take just now, looked at for a second."""
    def times():
        values = [int(value) for value in open("/proc/stat").readline().split()[1:9]]
        return sum(values), values[3] + values[4]

    (start, idle), _, (end, idle_then) = times(), time.sleep(1), times()
    return 1 - (idle_then - idle) / max(end - start, 1)


def warn_of_others():
    """Figures beside other programs are no figures."""
    share = others()
    if share > 0.1:
        print(f"warning: other programs take {share:.0%} of the processors", flush=True)


def pinned(threads):
    """What to put before a command so that its threads have a processor each, and nothing else."""
    return ["taskset", "-c", ",".join(map(str, processors()[:threads]))]


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def ebb_rows(command):
    """Tests as llama-bench names them, and their tokens a second; the instruction set."""
    rows = json.loads(run([*command, "--json"]))
    return {row["test"]: row["tokens_per_second"] for row in rows}, rows[0]["isa"]


def peer_rows(command):
    """The same of llama-bench: medians over its repetitions."""
    rates = {}
    for row in json.loads(run([*command, "-o", "json"])):
        test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        rates[f"{test} @ {row['n_depth']}" if row["n_depth"] else test] = statistics.median(row["samples_ts"])
    return rates


def tensors(ctl, name, models):
    """Weights of the layers' matrices, and bytes that a token reads: those and the head."""
    matrices = [t for t in json.loads(run([ctl, "inspect", name, "--json", "--models", models]))["tensors"] if t["k"] > 1]
    layers = [t for t in matrices if t["name"].startswith("blk.")]
    name_of_head = "output.weight" if any(t["name"] == "output.weight" for t in matrices) else "token_embd.weight"
    heads = [t for t in matrices if t["name"] == name_of_head]
    return sum(t["n"] * t["k"] for t in layers), sum(t["bytes"] for t in layers + heads)


def ik_rates(path, threads, tests, venv):
    """ik_llama.cpp's rates by test (see ik_llama.py); empty where its wheel is not installed, or cannot run the model."""
    python = pathlib.Path(venv) / "bin" / "python"
    if not python.exists():
        return {}
    program = pathlib.Path(__file__).resolve().parent / "ik_llama.py"
    try:
        return json.loads(run([*pinned(threads), str(python), str(program), str(path), str(threads), *tests]))
    except subprocess.CalledProcessError:
        return {}
