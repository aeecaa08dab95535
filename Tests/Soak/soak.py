"""soak.py EBBD MODELS MINUTES [CLIENTS]: clients of every bad habit against one daemon, and what it has left at the end.

After a warm-up with the same clients, and again at the end, the daemon is left alone and must hold the same: descriptors,
KV cache, connections, requests; within 2 MiB the bytes that malloc has given out, and all anonymous memory that is not
malloc's. Pages of malloc's are bounded by 16 MiB (9 were seen): each thread's cache of freed blocks (glibc's tcache) holds
on to the pages that they lie in, more after a longer crowd, up to a bound; with GLIBC_TUNABLES=glibc.malloc.tcache_count=0
they do not grow. No request may fail that was not cancelled, refused with a time to try again, or of a client that did
something wrong. SmolLM2 is served; the seed is $SEED or the time.
"""
import asyncio
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

from ebb_protocol import Closed, Connection, body_of, frame

MODEL = "smollm2"
CLIENTS = int(sys.argv[4]) if len(sys.argv) > 4 else 200
EXPECTED = {"OVERLOADED", "CANCELLED"}  # of a well-behaved client; OUT_OF_MEMORY only with retry
# The libraries start threads as they need them, and end them some seconds later: on two CPUs 17 to 23 were seen at rest.
BOUNDS = {"heap KiB in RAM": 16384, "threads": 4 * os.cpu_count()}

tally = collections.Counter()
wrong = collections.Counter()


def judge(kind, values, what, allowed=()):
    """Counts an answer; a failure that nobody provoked is wrong."""
    if kind != "failure":
        tally[f"{what} answered"] += 1
        return
    code = values.get("code", "CODE_UNSPECIFIED")
    tally[f"{code.lower()}"] += 1
    if code in EXPECTED or code in allowed or (code == "OUT_OF_MEMORY" and values.get("retry")):
        return
    wrong[f"{what}: {code} {values.get('message', '')[:90]}"] += 1


def generate(tokens, prompt=None):
    words = ["sea", "stone", "river", "lamp", "paper", "cloud", "horse", "glass"]
    prompt = prompt or "Tell of the " + " and the ".join(random.choices(words, k=random.randint(1, 20)))
    return {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "sampling": {"temperature": 0.7}}


async def stream(c):
    wanted = await c.request(generate=generate(random.randint(1, 24)))
    while True:
        kind, values = body_of(await c.receive())
        if kind != "delta":
            return judge(kind, values, "stream")


async def many(c):
    waiting = {await c.request(generate=generate(8)) for _ in range(random.randint(2, 12))}
    while waiting:
        envelope = await c.receive()
        kind, values = body_of(envelope)
        if kind != "delta":
            waiting.discard(envelope.get("id", 0))
            judge(kind, values, "stream")


async def cancel(c):
    wanted = await c.request(generate=generate(400))
    sent = ended = False
    while not ended:
        envelope = await c.receive()
        kind, values = body_of(envelope)
        if envelope.get("id") == wanted and kind != "delta":
            judge(kind, values, "cancelled stream")
            ended = True
        if not sent:
            sent = True
            await c.request(cancel={"request": wanted})


async def die(c):
    waiting = {await c.request(generate=generate(300)) for _ in range(random.randint(1, 4))}
    for _ in range(random.randint(0, 4)):
        envelope = await c.receive()
        if body_of(envelope)[0] != "delta":
            waiting.discard(envelope.get("id", 0))
        if not waiting:  # all refused: nothing more will come
            break
    tally["died"] += 1
    raise Closed("on purpose")


async def half_frame(c):
    whole = frame({"id": 99, "generate": generate(8)})
    await c.send_bytes(whole[:random.randint(1, len(whole) - 1)])
    await asyncio.sleep(random.uniform(0, 2))
    tally["half a frame"] += 1
    raise Closed("on purpose")


async def garbage(c):
    whole = bytearray(frame({"id": 99, "generate": generate(8)}))
    for _ in range(3):
        whole[random.randrange(len(whole))] = random.randrange(256)
    await c.send_bytes(bytes(whole))
    try:
        await asyncio.wait_for(c.receive(), 1)
    except asyncio.TimeoutError:
        pass
    tally["garbage"] += 1
    raise Closed("on purpose")


async def silent(c):
    await asyncio.sleep(random.uniform(1, 8))
    tally["silent"] += 1


async def slow_reader(c):
    """Asks for much and reads nothing for a while, then all of it or none."""
    for _ in range(8):
        await c.request(ping={"payload": bytes(64 << 10)})
    waiting = {await c.request(generate=generate(20)) for _ in range(3)}
    await asyncio.sleep(random.uniform(1, 6))
    if random.random() < 0.5:
        tally["slow, then dead"] += 1
        raise Closed("on purpose")
    while waiting:
        envelope = await c.receive()
        kind, values = body_of(envelope)
        if kind not in ("delta", "pong"):
            waiting.discard(envelope.get("id", 0))
            judge(kind, values, "slow stream", allowed=("SLOW_READER",))


async def small_calls(c):
    calls = [
        {"ping": {"payload": b"x" * random.randint(0, 2000)}}, {"list_models": {}}, {"get_status": {}},
        {"tokenize": {"model": MODEL, "text": "word " * random.randint(1, 4000)}},
        {"detokenize": {"model": MODEL, "ids": [random.randrange(49152) for _ in range(50)]}},
    ]
    for body in random.choices(calls, k=6):
        kind, values = await c.call(**body)
        judge(kind, values, next(iter(body)))


async def mistakes(c):
    for body in [{"generate": generate(4) | {"model": "nothing"}}, {"tokenize": {"model": "../x", "text": "a"}},
                 {"detokenize": {"model": MODEL, "ids": [-1, 2**31 - 1]}}, {"embed": {"model": MODEL, "texts": ["a"]}}]:
        kind, values = await c.call(**body)
        judge(kind, values, "mistake", allowed=("UNKNOWN_MODEL", "BAD_REQUEST", "MODEL_UNUSABLE"))


async def no_hello(path):
    c = await Connection.open(path, hello=False)
    await c.send(random.choice([{"id": 1, "ping": {}}, {"id": 1, "hello": {"version_min": 7, "version_max": 9}}]))
    await asyncio.sleep(random.uniform(0, 1))
    c.abort()
    tally["no handshake"] += 1


HABITS = [(stream, 6), (many, 2), (cancel, 3), (die, 3), (half_frame, 2), (garbage, 1), (silent, 2), (slow_reader, 1),
          (small_calls, 3), (mistakes, 1)]


async def client(path, end):
    while time.monotonic() < end:
        if random.random() < 0.05:
            try:
                await no_hello(path)
            except (Closed, OSError):
                pass
            continue
        c = None
        try:
            c = await Connection.open(path, "soak")
            for _ in range(random.randint(1, 4)):
                habit = random.choices([h for h, _ in HABITS], [w for _, w in HABITS])[0]
                await habit(c)
        except Closed as why:
            # Answers that do not come are failures, too, but for those of clients that gave cause.
            if why.args and why.args[0] != "on purpose":
                text = f"connection ended: {why.args[0]!r}"
                if isinstance(why.args[0], dict) and why.args[0].get("code") == "OVERLOADED":
                    tally["refused at the door"] += 1
                else:
                    wrong[text[:120]] += 1
        except OSError as error:
            wrong[f"no connection: {error}"] += 1
        finally:
            if c:
                c.abort()
        await asyncio.sleep(random.uniform(0, 0.3))


async def operator(path, end):
    """Modes and pressure go up and down."""
    c = await Connection.open(path, "operator")
    while time.monotonic() < end:
        mode = random.choice(["DEQUANTIZED", "MEMORY_LOW", "AUTO"])
        judge(*await c.call(set_mode={"model": MODEL, "mode": mode}), "set_mode", allowed=("OUT_OF_MEMORY",))
        level = random.choice(["WARNING", "CRITICAL", "NOMINAL"])
        judge(*await c.call(set_pressure={"level": level, "seconds": random.randint(0, 2)}), "set_pressure")
        await asyncio.sleep(random.uniform(0.2, 1.5))
    c.abort()


class Daemon:
    def __init__(self, program, models):
        self.folder = tempfile.mkdtemp(prefix="ebb-soak-")
        self.socket, self.log = f"{self.folder}/s", open(f"{self.folder}/log", "w+")
        self.process = subprocess.Popen(
            [program, "--socket", self.socket, "--models", models, "--state", f"{self.folder}/state", "--no-probe",
             "--mode", "memory_low", "--context", "512", "--log-level", "warning", "--load", MODEL],
            stdout=self.log, stderr=self.log)

    async def ready(self):
        for _ in range(600):
            try:
                return await Connection.open(self.socket, "soak")
            except OSError:
                await asyncio.sleep(0.1)
        raise SystemExit("soak: the daemon did not start:\n" + open(self.log.name).read())

    async def at_rest(self):
        """What it holds once it has nothing to do and everything kept has been given back."""
        c = await self.ready()
        judge(*await c.call(set_mode={"model": MODEL, "mode": "MEMORY_LOW"}), "set_mode")
        figures = None
        for _ in range(240):  # until two looks, seconds apart, agree
            await c.call(set_pressure={"level": "CRITICAL", "seconds": 2})
            await asyncio.sleep(4)
            _, status = await c.call(get_status={})
            heap, other = self.anonymous()
            model = next((m for m in status.get("models", []) if m.get("name") == MODEL), {})
            last, figures = figures, {
                "descriptors": len(os.listdir(f"/proc/{self.process.pid}/fd")),
                "threads": len(os.listdir(f"/proc/{self.process.pid}/task")),
                "connections": status.get("connections", 0), "requests": status.get("active_requests", 0),
                "queued requests": status.get("queued_requests", 0),
                "KV blocks": model.get("kv_blocks", 0), "kept conversations": model.get("prefixes", 0),
                "reserved KV bytes": model.get("reserved_kv_bytes", 0),
                "expanded layers": model.get("expanded_layers", 0), "KV KiB in RAM": model.get("kv_bytes", 0) >> 10,
                "heap KiB in use": status.get("heap_bytes", 0) >> 10,
                "heap KiB in RAM": heap, "other anonymous KiB": other,
            }
            idle = figures["requests"] == 0 and figures["connections"] == 1 and figures["expanded layers"] == 0
            if idle and last and abs(last["heap KiB in RAM"] - heap) < 64 \
                    and last["descriptors"] == figures["descriptors"]:
                break
        c.abort()
        return figures

    def anonymous(self):
        """KiB of anonymous memory in malloc's heap and elsewhere; arenas begin at multiples of 64 MiB."""
        heap = other = 0
        with open(f"/proc/{self.process.pid}/smaps") as maps:
            for line in maps:
                words = line.split()
                if not words[0].endswith(":"):
                    start = int(words[0].split("-")[0], 16)
                    is_heap = words[-1] == "[heap]" or (len(words) == 5 and start % (64 << 20) == 0)
                elif words[0] == "Anonymous:":
                    heap += int(words[1]) * is_heap
                    other += int(words[1]) * (not is_heap)
        return heap, other

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "none: it had to be killed"


def awaited(task):
    """The functions that a task is in."""
    names, coroutine = [], task.get_coro()
    while hasattr(coroutine, "cr_frame"):
        names.append(coroutine.cr_code.co_name)
        coroutine = coroutine.cr_await
    return " > ".join(names)


async def crowd(path, seconds):
    end = time.monotonic() + seconds
    # What a client waits for comes to an end when the daemon works; the bound is for one that does not.
    tasks = [client(path, end) for _ in range(CLIENTS)] + [operator(path, end)]
    done, late = await asyncio.wait([asyncio.ensure_future(t) for t in tasks], timeout=seconds + 300)
    for task in late:
        wrong[f"waited for minutes: {awaited(task)}"] += 1
        task.cancel()
    for task in done:
        task.result()


async def main():
    seconds = float(sys.argv[3]) * 60
    seed = int(os.environ.get("SEED", time.time()))
    random.seed(seed)
    daemon = Daemon(sys.argv[1], sys.argv[2])
    failed = []
    try:
        (await daemon.ready()).abort()
        await crowd(daemon.socket, max(10, seconds / 5))
        before = await daemon.at_rest()
        wrong.clear()
        tally.clear()
        await crowd(daemon.socket, seconds)
        after = await daemon.at_rest()
        print(f"{CLIENTS} clients, {seconds:.0f} s, seed {seed}")
        for what, count in sorted(tally.items()):
            print(f"  {what:<28} {count:>10,}")
        print(f"  {'at rest':<28} {'at its start':>14} {'at its end':>14}")
        for name in before:
            bound = BOUNDS.get(name, 2048 if "KiB" in name else 0)
            bad = after[name] - before[name] > bound or (bound == 0 and after[name] != before[name])
            failed += [name] * bad
            print(f"  {name:<28} {before[name]:>14,} {after[name]:>14,}{'  <-- differs' if bad else ''}")
    except (Closed, OSError) as error:
        failed.append(f"the daemon has gone: {error}")
    finally:
        code = daemon.stop()
    if code != 0:
        failed.append(f"the daemon's exit status is {code}; its log is {daemon.log.name}")
    for what, count in wrong.most_common(20):
        print(f"  FAILED {count:>6} x {what}")
    if failed or wrong:
        print("soak: " + "; ".join(failed or ["requests failed"]))
        sys.exit(1)
    print("soak: all came back, nothing failed")


asyncio.run(main())
