"""Makes a family's folder and GGUF, asks transformers for results, proves that settings matter, and writes the JSON."""
import json
import logging
import pathlib
import re
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file

import decoders
import description
import libllama
import weights as prng

SHORT, LONG = 12, 80  # tokens of the two prompts
LEAST_EFFECT = 0.01  # of the range of the results: what a mutation has to change
LEAST_MARGIN = 0.01  # between the logits of the last expert that is used and the first that is not

torch.set_num_threads(1)
torch.manual_seed(0)
transformers.logging.set_verbosity_error()
for name in ("hf-to-gguf", "gguf"):
    logging.getLogger(name).setLevel(logging.ERROR)


def rule(name, family):
    for pattern, mean, spread in family.get("weights", []) + decoders.USUAL:
        if re.search(pattern, name):
            return mean, spread


def load(folder, family, changes=None):
    """The folder's model by transformers; changes: config values or a function of the model, of a mutation."""
    model_class = getattr(transformers, family["model"])
    config = model_class.config_class.from_pretrained(folder)
    if isinstance(changes, dict):
        text = json.loads((folder / "config.json").read_text())
        if "rope_scaling" in changes and changes["rope_scaling"] is None:
            text.pop("rope_scaling")
        if "sliding_window" in changes or "layer_types" in changes:
            text.pop("_sliding_window_pattern", None)
        text |= changes
        config = model_class.config_class(**text)
    model, info = model_class.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager",
                                              output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    if callable(changes):
        with torch.no_grad():
            changes(model)
    return model.eval()


def make_folder(folder, family):
    """A folder as save_pretrained writes it, with the weights of the pseudo-random sequence; their names, shapes and rules."""
    model_class = getattr(transformers, family["model"])
    model_class(model_class.config_class(**family["config"])).save_pretrained(folder)
    tensors, arrays = [], {}
    path = folder / "model.safetensors"
    with safe_open(path, "np") as file:
        for name in file.keys():
            shape = file.get_slice(name).get_shape()
            mean, spread = rule(name, family)
            tensors.append({"name": name, "shape": shape, "mean": mean, "spread": spread})
            arrays[name] = prng.values(name, shape, mean, spread)
    save_file(arrays, path, metadata={"format": "pt"})
    return tensors, arrays


def logits(model, prompts):
    with torch.inference_mode():
        return [model(torch.tensor([tokens]), use_cache=False).logits[0].numpy() for tokens in prompts]


def span(results):
    return max(float(rows.max()) for rows in results) - min(float(rows.min()) for rows in results)


def difference(results, others, reference=None):
    """The largest difference as a part of the range of the results."""
    return max(float(np.abs(a - b).max()) for a, b in zip(results, others)) / span(reference or results)


def sharpness(model, tokens):
    """The mean of the largest attention weight of every row beyond the 8th: 1/n where attention is uniform."""
    with torch.inference_mode():
        maps = model(torch.tensor([tokens]), output_attentions=True, use_cache=False).attentions
    return [round(float(layer[0, :, 8:, :].max(-1).values.mean()), 2) for layer in maps]


def margin(model, prompts, router):
    """The least distance between the logits of the last expert that is used and the first that is not."""
    found, hooks = [], []
    used = model.config.num_experts_per_tok
    for name, module in model.named_modules():
        if name.endswith(router):
            def hook(module, inputs, output):
                x = inputs[0].reshape(-1, inputs[0].shape[-1])
                scores = torch.nn.functional.linear(x, module.weight, getattr(module, "bias", None)).sort(-1, True).values
                found.append(float((scores[:, used - 1] - scores[:, used]).min()))
            hooks.append(module.register_forward_hook(hook))
    logits(model, prompts)
    assert found, router
    for hook in hooks:
        hook.remove()
    return min(found)


def prompts_of(name, family, salt):
    first, end = 4, family["config"]["vocab_size"]
    return [prng.tokens(f"{name}/{which}/{salt}", count, first, end) for which, count in (("short", SHORT), ("long", LONG))]


def last_rows(rows):
    return [[float(f"{value:.9g}") for value in row] for row in rows[-2:]]


def make_decoder(name, family, source, llama, folder):
    tensors, arrays = make_folder(folder, family)
    model = load(folder, family)
    salt = 0
    prompts = prompts_of(name, family, salt)
    while "router" in family and (gap := margin(model, prompts, family["router"])) < LEAST_MARGIN:
        salt += 1
        prompts = prompts_of(name, family, salt)
    results = logits(model, prompts)
    print(f"{name}: logits {min(r.min() for r in results):.2f} ... {max(r.max() for r in results):.2f},",
          f"largest attention weights {sharpness(model, prompts[1])}" + (f", experts' margin {gap:.4f}" if "router" in family else ""))
    weak = prove(name, folder, family, prompts, results)
    config = json.loads((folder / "config.json").read_text())
    gguf = description.describe(source, folder, arrays, family["model"])
    made = {"family": gguf["metadata"]["general.architecture"]["value"], "config": config, "tensors": tensors, "gguf": gguf,
            "tokens": prompts, "rows": [[len(p) - 2, len(p) - 1] for p in prompts], "logits": [last_rows(r) for r in results]}
    if "gguf_config" in family:
        others = logits(load(folder, family, family["gguf_config"]), prompts)
        gguf["differs"] = family["gguf_config"]
        gguf["logits"] = [last_rows(r) for r in others]
        print(f"  the GGUF says {family['gguf_config']}: {difference(results, others):.3g} from the folder")
        results = others
    second_opinion(name, gguf, arrays, config["vocab_size"], folder, llama, prompts, results)
    return made, weak


def prove(name, folder, family, prompts, results):
    """Prints what every mutation changes; the number of those that change too little."""
    weak = 0
    for label, change in family["mutations"]:
        others = logits(load(folder, family, change), prompts)
        each = [difference([a[-2:]], [b[-2:]], results) for a, b in zip(results, others)]
        good = max(each) >= LEAST_EFFECT
        weak += not good
        print(f"  {label}: {each[0]:.3g} and {each[1]:.3g} of the range" + ("" if good else "  TOO LITTLE"))
    return weak


def second_opinion(name, gguf, arrays, vocab_size, folder, llama, prompts, results):
    path = folder / "rebuilt.gguf"
    description.rebuild(gguf, arrays, vocab_size, path)
    if llama is None:
        return
    try:
        each = [difference([result], [llama.run(path, tokens, vocab_size)]) for tokens, result in zip(prompts, results)]
        print("  llama.cpp: " + " and ".join(f"{value:.3g}" for value in each) + " of the range")
    except RuntimeError as error:
        print(f"  llama.cpp: {error}")


def text(made):
    """JSON with one line for a tensor, a row of numbers, or a short object."""
    def flat(value):
        return json.dumps(value, ensure_ascii=False)

    def lines(value, indent):
        inner = indent + " "
        short = flat(value)
        if not isinstance(value, (dict, list)) or not value or len(short) < 120 or \
                isinstance(value, list) and not isinstance(value[0], (list, dict)):
            return short
        if isinstance(value, dict):
            parts = [f"{inner}{flat(key)}: {lines(item, inner)}" for key, item in value.items()]
            if "op" in value:
                return short
            return "{\n" + ",\n".join(parts) + "\n" + indent + "}"
        return "[\n" + ",\n".join(inner + lines(item, inner) for item in value) + "\n" + indent + "]"

    return lines(made, "") + "\n"


def all_families(out, names, source, library):
    llama = libllama.Llama(str(library)) if library.exists() else None
    if llama is None:
        print(f"no {library}: llama.cpp is not asked")
    out.mkdir(parents=True, exist_ok=True)
    weak = 0
    for name, family in decoders.FAMILIES.items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made, few = make_decoder(name, family, source, llama, pathlib.Path(folder))
        weak += few
        (out / f"{name}.json").write_text(text(made))
        print(f"  {(out / f'{name}.json').stat().st_size >> 10} KiB", flush=True)
    return 1 if weak else 0
