"""Proves Ebb under real systemd. Runs as root in the machine that Tests/System/run boots."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

figures = {}
failures = 0
SETTINGS = "/etc/ebb.json"


def sh(command, timeout=300, check=True):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: exit {done.returncode}: {(done.stdout + done.stderr).strip()[-400:]}")
    return done.stdout.strip()


def proof(name):
    """Runs a function as a proof: its return value is what is printed."""

    def wrap(function):
        global failures
        start = time.monotonic()
        try:
            said, verdict = function() or "", "ok"
        except Exception as error:  # every failure is a line of the report
            said, verdict = f"{type(error).__name__}: {error}", "FAILED"
            failures += 1
            for line in sh("journalctl -u ebbd.service -n 12 --no-pager -o cat", check=False).splitlines():
                print(f"NOTE journal: {line}", flush=True)
        print(f"PROOF {verdict:6} {name}: {said} [{time.monotonic() - start:.0f} s]", flush=True)

    return wrap


def wait(what, condition, seconds=60, pause=0.25):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"never came: {what}")


def status():
    return json.loads(sh("ebbctl status --json"))


def number(value):
    return int(value or 0)


def model(name):
    return next((m for m in status().get("models", []) if m["name"] == name), {})


def unit(name):
    return sh(f"systemctl show -P {name} ebbd.service")


def drop_in(text):
    os.makedirs("/etc/systemd/system/ebbd.service.d", exist_ok=True)
    with open("/etc/systemd/system/ebbd.service.d/test.conf", "w") as file:
        file.write(f"[Service]\nEnvironment=EBB_MODELS=/srv/models\n{text}\n")
    sh("systemctl daemon-reload")


def restart(text=""):
    drop_in(text)
    sh("systemctl stop ebbd.service && systemctl reset-failed ebbd.service; systemctl start ebbd.socket ebbd.service")


def cgroup(file):
    with open(f"/sys/fs/cgroup/system.slice/ebbd.service/{file}") as content:
        return content.read()


def oom_kills():
    with open("/proc/vmstat") as file:
        return int(re.search(r"oom_kill (\d+)", file.read()).group(1))


def available():
    with open("/proc/meminfo") as file:
        return int(re.search(r"MemAvailable: +(\d+)", file.read()).group(1)) // 1024


class Stream(threading.Thread):
    """A client that reads a stream to its end; `tokens` counts its pieces."""

    def __init__(self, name, tokens):
        super().__init__()
        self.process = subprocess.Popen(
            ["ebbctl", "run", name, "--raw", "Once upon a time", "-n", str(tokens), "--temperature", "0",
             "--repetition-penalty", "1.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.bytes, self.last, self.gap = 0, time.monotonic(), 0.0
        self.start()

    def run(self):
        while piece := self.process.stdout.read1(64):
            now = time.monotonic()
            if self.bytes:
                self.gap = max(self.gap, now - self.last)
            self.last = now
            self.bytes += len(piece)

    def finish(self, seconds=300):
        code = self.process.wait(seconds)
        errors = self.process.stderr.read().decode()
        assert code == 0, f"the stream failed: {errors[-300:]}"
        assert self.bytes > 0, "the stream was empty"
        return errors.strip()

    def end(self):
        self.process.terminate()
        self.process.wait()


HOG = r"""
import sys, time, re
blocks, target, hold = [], int(sys.argv[1]), float(sys.argv[2])
def available():
    return int(re.search(r"MemAvailable: +(\d+)", open("/proc/meminfo").read()).group(1)) // 1024
while available() > target:
    block = bytearray(8 << 20)
    for at in range(0, len(block), 4096): block[at] = 1
    blocks.append(block)
print(len(blocks) * 8, flush=True)
end = time.monotonic() + hold
while time.monotonic() < end:
    # Stays in use, so that it is not what the kernel takes back.
    for block in blocks:
        for at in range(0, len(block), 65536): block[at] = 2
    time.sleep(0.05)
"""


def hog(target, hold):
    """Another process that takes memory until so many MiB are available."""
    return subprocess.Popen([sys.executable, "-c", HOG, str(target), str(hold)], stdout=subprocess.PIPE)


print(f"NOTE {sh('systemctl --version').splitlines()[0]}, kernel {os.uname().release}, {available()} MiB available", flush=True)


@proof("the package installs, and its socket listens")
def _():
    with open(SETTINGS, "w") as file:
        json.dump({"calmSeconds": 3, "dwellSeconds": 2, "memoryBudget": "40%", "memoryReserve": "100M"}, file)
    drop_in("")
    sh("dpkg -i /srv/ebb_*.deb")
    assert sh("systemctl is-active ebbd.socket") == "active"
    return sh("stat -c '%A %U:%G %n' /run/ebb/ebb.sock")


@proof("socket activation starts the daemon")
def _():
    assert sh("systemctl is-active ebbd.service", check=False) == "inactive"
    server = status()["server"]
    assert sh("systemctl is-active ebbd.service") == "active"
    return f"{server} is up after the first connection"


@proof("the unit's exposure is 1.5 or less")
def _():
    line = sh("systemd-analyze security ebbd.service --no-pager | tail -1")
    exposure = float(re.search(r"(\d+\.\d+)", line).group(1))
    assert exposure <= 1.5, line
    figures["exposure"] = exposure
    return line.replace("\u2192", "").strip()


@proof("the sources that there are")
def _():
    sources = {s["name"]: s["reading"] for s in status()["sources"]}
    has_protocol = int(re.search(r"systemd (\d+)", sh("systemctl --version")).group(1)) >= 254
    assert ("systemd" in sources) == has_protocol, sources
    assert "PSI system" in sources and "PSI own cgroup" in sources and "cgroup" in sources, sources
    return "; ".join(f"{name}: {reading}" for name, reading in sources.items())


@proof("a text is generated, and systemctl status says what goes on")
def _():
    restart("ExecStart=\nExecStart=/usr/bin/ebbd --admin-group ebb-admin --no-probe --settings " + SETTINGS)
    sh("ebbctl load smollm2")
    sh("ebbctl run smollm2 --raw 'The sea' -n 4 --temperature 0")
    text = wait("a status line that names the model", lambda: "smollm2" in unit("StatusText") and unit("StatusText"))
    assert text in sh("systemctl status ebbd.service --no-pager --lines=0")
    return text


@proof("calm, layers are expanded into the memory that there is")
def _():
    found = wait("expanded layers", lambda: (m := model("smollm2")).get("expandedLayers", 0) >= 20 and m, 120)
    figures["expanded"] = f"{found['expandedLayers']}/{found['layers']} {number(found['expandedBytes']) >> 20} MiB"
    figures["rss nominal"] = f"{(number(status()['anonymousBytes']) + number(status()['fileBytes'])) >> 20} MiB"
    return figures["expanded"]


@proof("the journal has model, mode and reason as fields")
def _():
    line = sh("journalctl -u ebbd.service -o json EBB_MODEL=smollm2 EBB_MODE=dequantized --no-pager | tail -1")
    entry = json.loads(line)
    assert entry["EBB_REASON"], entry
    return f"{entry['MESSAGE']} (EBB_REASON={entry['EBB_REASON']})"


def pressure(names, target):
    """A stream runs while another process takes memory until the kernel reports pressure."""
    kills, before = oom_kills(), sum(number(model(n).get("expandedBytes")) for n in names)
    assert before > 0, "nothing is expanded"
    events = subprocess.Popen(["ebbctl", "events", "--json"], stdout=subprocess.PIPE, text=True)
    stream = Stream(names[0], 400)
    wait("the first words", lambda: stream.bytes > 0, 120)
    other = hog(target, 25)
    try:
        level = wait("pressure", lambda: status().get("level", "NOMINAL") != "NOMINAL" and status(), 120)
        telling = [f"{s['name']}: {s['reading']}" for s in level["sources"] if s.get("level", "NOMINAL") != "NOMINAL"]
        least = wait("fewer expanded bytes",
                     lambda: (sum(number(model(n).get("expandedBytes")) for n in names) < before / 2 + 1) and status(), 60)
        after = sum(number(m.get("expandedBytes")) for m in least["models"])
        figures["rss pressed"] = f"{(number(least['anonymousBytes']) + number(least['fileBytes'])) >> 20} MiB"
        seen = stream.bytes
        wait("the stream to go on under pressure", lambda: stream.bytes > seen, 120)
        other.wait(120)
    finally:
        other.kill()
    seen = stream.bytes
    wait("the stream to go on afterwards", lambda: stream.bytes > seen or not stream.is_alive(), 120)
    wait("Ebb to grow back",
         lambda: sum(number(model(n).get("expandedBytes")) for n in names) > after + (20 << 20), 180)
    stream.end()
    events.terminate()
    reactions = [json.loads(line) for line in events.stdout if '"reactionUs"' in line]
    micro = sorted(int(e["reactionUs"]) for e in reactions)
    assert oom_kills() == kills, "somebody was killed for want of memory"
    if micro:
        figures["event to memory back, ms"] = f"median {micro[len(micro) // 2] / 1000:.1f}, worst {micro[-1] / 1000:.1f} of {len(micro)}"
    return (f"{before >> 20} -> {after >> 20} MiB expanded and back, stream went on (longest gap {stream.gap:.1f} s), "
            f"nobody killed; {'; '.join(telling)}")


@proof("under real pressure a stream goes on, memory comes back, nobody is killed, and Ebb grows again")
def _():
    return pressure(["smollm2"], 70)


@proof("the same with two models, and with systemd-oomd")
def _():
    oomd = sh("systemctl start systemd-oomd.service && systemctl is-active systemd-oomd.service", check=False)
    sh("ebbctl load qwen2")
    sh("ebbctl prefer qwen2 memory")
    sh("ebbctl run qwen2 --raw 'The sea' -n 2 --temperature 0", timeout=300)
    wait("expanded layers", lambda: number(model("smollm2").get("expandedBytes")) > 40 << 20, 180)
    said = pressure(["smollm2", "qwen2"], 70)
    rss = status()
    figures["rss two models"] = f"{(number(rss['anonymousBytes']) + number(rss['fileBytes'])) >> 20} MiB"
    return f"systemd-oomd {oomd}; {said}"


@proof("the sum of what status shows is within 5 % of the kernel's figure")
def _():
    sh("systemctl stop ebbd.service")
    before = status()
    own = number(before["anonymousBytes"]) + number(before["fileBytes"])
    sh("ebbctl run smollm2 --raw 'The sea' -n 4 --temperature 0")
    now = status()
    shown = sum(number(m.get(f"{part}Bytes")) for m in now["models"] for part in ("resident", "expanded", "kv", "scratch"))
    kernel, mapped = 0, 0
    with open(f"/proc/{now['pid']}/smaps") as file:
        path = ""
        for line in file:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                path = line.split(maxsplit=5)[5].strip() if len(line.split(maxsplit=5)) > 5 else ""
            elif line.startswith("Rss:"):
                kernel += int(line.split()[1]) << 10
                mapped += (int(line.split()[1]) << 10) * path.endswith(".ebb")
    apart = abs(shown + number(now["ownBytes"]) - kernel) / kernel
    assert apart < 0.05, f"{shown} + {now['ownBytes']} against {kernel}"
    resident = sum(number(m["residentBytes"]) for m in now["models"])
    assert abs(resident - mapped) / kernel < 0.05, f"{resident} of files against {mapped}"
    # What the daemon has of its own was there before; a model's vocabulary is added.
    assert own - (5 << 20) < number(now["ownBytes"]) < own + (40 << 20), f"own {now['ownBytes']}, before {own}"
    figures["accounting"] = f"{apart * 100:.1f} %"
    return f"{shown >> 20} MiB of models + {number(now['ownBytes']) >> 20} MiB own against {kernel >> 20} MiB: {apart * 100:.1f} % apart"


@proof("MemoryHigh and MemoryMax of the unit are respected with Qwen2.5-0.5B")
def _():
    restart("MemoryHigh=600M\nMemoryMax=640M\nExecStart=\nExecStart=/usr/bin/ebbd --no-probe --settings " + SETTINGS)
    kills = oom_kills()
    sh("ebbctl prefer qwen2 accuracy")
    sh("ebbctl run qwen2 --raw 'The sea' -n 3 --temperature 0", timeout=600)
    time.sleep(12)
    sh("ebbctl run qwen2 --raw 'The sea' -n 3 --temperature 0", timeout=600)
    current, most = int(cgroup("memory.current")), 640 << 20
    events = dict(line.split() for line in cgroup("memory.events").splitlines())
    assert current <= most and int(events["oom_kill"]) == 0 and oom_kills() == kills, (current, events)
    found = model("qwen2")
    return (f"{current >> 20} MiB in use, high {events['high']} times, max {events['max']} times, no kill; "
            f"{found['expandedLayers'] if 'expandedLayers' in found else 0}/{found['layers']} layers expanded")


@proof("a model that the unit's limit has no room for is refused with what would help")
def _():
    restart("MemoryMax=200M\nExecStart=\nExecStart=/usr/bin/ebbd --no-probe --settings " + SETTINGS)
    done = subprocess.run("ebbctl load qwen2", shell=True, capture_output=True, text=True)
    assert done.returncode != 0 and "needs about" in done.stderr, done.stderr
    assert sh("systemctl is-active ebbd.service") == "active"
    return done.stderr.strip()


@proof("the watchdog restarts a stopped daemon")
def _():
    restart("WatchdogSec=10\nRestartSec=1\nTimeoutAbortSec=5")
    status()
    before, pid = int(unit("NRestarts")), int(unit("MainPID"))
    time.sleep(12)
    assert int(unit("MainPID")) == pid, "restarted without a reason"
    os.kill(pid, signal.SIGSTOP)
    wait("a restart", lambda: int(unit("NRestarts")) > before, 90)
    wait("a new process", lambda: unit("ActiveState") == "active" and int(unit("MainPID")) not in (0, pid), 60)
    return f"pid {pid} -> {unit('MainPID')}, {status()['server']} answers"


print("FIGURES " + ", ".join(f"{name}: {value}" for name, value in figures.items()) + f", failures: {failures}", flush=True)
