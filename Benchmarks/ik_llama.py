"""ik_llama.py MODEL.gguf THREADS TEST...: tokens a second of ik_llama.cpp, as JSON. TESTs as decoders.py names them: pp512,
tg64 (at an empty context), tg64@1024.

Times llama_decode(3) of the library within the wheel ik-llama-cpp-python itself, by ctypes, as llama-bench does: a prompt
in one call, then one token a call, without a sampler (the wheel's own takes longer than a token of a small model). One
repetition, after a warm-up.
"""
import ctypes
import json
import os
import sys
import time

# What the library says while it loads.
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)
from ik_llama_cpp import _ctypes_api as api  # noqa: E402

path, threads, tests = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
batch_size = 2048


def context(model, tokens):
    params = api.llama_context_default_params()
    params.n_ctx = (tokens + 255) // 256 * 256
    params.n_batch = batch_size
    params.n_threads = params.n_threads_batch = threads
    made = api.llama_init_from_model(model, params)
    if not made:
        raise SystemExit("ik_llama.cpp: no context")
    return made


def decode(made, start, count):
    """Runs tokens at positions from `start` on; the last one's logits are computed."""
    batch = api.llama_batch_init(count, 0, 1)
    batch.n_tokens = count
    for i in range(count):
        batch.token[i] = (start + i) * 7919 % 1000 + 5
        batch.pos[i] = start + i
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = 0
        batch.logits[i] = int(i == count - 1)
    code = api.llama_decode(made, batch)
    api.llama_batch_free(batch)
    if code:
        raise SystemExit(f"ik_llama.cpp: llama_decode failed ({code})")


def seconds(made, test):
    api.llama_kv_cache_clear(made)
    kind, _, depth = test.partition("@")
    count, depth = int(kind[2:]), int(depth or 0)
    for start in range(0, depth, batch_size):
        decode(made, start, min(batch_size, depth - start))
    begin = time.monotonic()
    if kind.startswith("pp"):
        for start in range(depth, depth + count, batch_size):
            decode(made, start, min(batch_size, depth + count - start))
    else:
        for i in range(count):
            decode(made, depth + i, 1)
    return count / (time.monotonic() - begin)


api.llama_backend_init()
params = api.llama_model_default_params()
# Its fastest path.
params.repack_tensors = True
model = api.llama_model_load_from_file(path.encode(), params)
if not model:
    raise SystemExit(f"ik_llama.cpp: cannot load {path}")
made = context(model, max(sum(int(n) for n in test[2:].split("@")) for test in tests))
rates = {}
for test in tests:
    seconds(made, "tg1" if test.startswith("tg") else test)
    rates[test] = seconds(made, test)
info = api._lib.llama_print_system_info
info.restype = ctypes.c_char_p
rates["system"] = info().decode()
os.write(out, (json.dumps(rates) + "\n").encode())
# Skips destructors: the process ends anyway.
os._exit(0)
