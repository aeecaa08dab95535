"""Makes a family's folder and GGUF, asks transformers for results, proves that settings matter, and writes the JSON."""
import json
import logging
import pathlib
import re
import tempfile

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file

import decoders
import description
import encoders
import libllama
import nomic
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


def load(folder, family, arrays, changes=None):
    """The folder's model by transformers; changes: config values or a function of the model, of a mutation."""
    if family["model"] == "NomicBertModel":
        return nomic.load(folder, arrays, changes)
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
    path = folder / "model.safetensors"
    if family["model"] == "NomicBertModel":
        shapes = nomic.shapes(family["config"])
        (folder / "config.json").write_text(json.dumps(family["config"]))
    else:
        model_class = getattr(transformers, family["model"])
        model_class(model_class.config_class(**family["config"])).save_pretrained(folder)
        with safe_open(path, "np") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    tensors, arrays = [], {}
    for name, shape in shapes.items():
        mean, spread = rule(name, family)
        tensors.append({"name": name, "shape": shape, "mean": mean, "spread": spread})
        arrays[name] = prng.values(name, shape, mean, spread)
    save_file(arrays, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | family.get("patch", {})
    (folder / "config.json").write_text(json.dumps(config))
    files, modules = make_modules(folder, family, arrays) if "pooling" in family else ({}, [])
    return tensors, arrays, {"config": config, "files": files, "modules": modules}


def make_modules(folder, family, arrays):
    """What sentence-transformers puts behind the encoder: its files of JSON, and its tensors, which come to the arrays, too."""
    kinds = ["Transformer", "Pooling"] + ["Dense"] * len(family.get("dense", [])) + ["Normalize"]
    paths = ["" if i == 0 else f"{i}_{kind}" for i, kind in enumerate(kinds)]
    files = {"modules.json": [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths))]}
    width = family["config"].get("hidden_size") or family["config"]["n_embd"]
    modes = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "lasttoken": "pooling_mode_lasttoken"}
    files["1_Pooling/config.json"] = {"word_embedding_dimension": width} | {
        mode: pooling == family["pooling"] for pooling, mode in modes.items()}
    made = []
    for path, outputs in zip(paths[2:], family.get("dense", [])):
        files[f"{path}/config.json"] = {
            "in_features": width, "out_features": outputs, "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity"}
        seed, shape, width = f"{path}/linear.weight", [outputs, width], outputs
        arrays[seed] = prng.values(seed, shape, 0, 0.25)
        made.append({"path": f"{path}/model.safetensors", "tensors": [
            {"name": "linear.weight", "seed": seed, "shape": shape, "mean": 0, "spread": 0.25}]})
        (folder / path).mkdir()
        save_file({"linear.weight": arrays[seed]}, folder / path / "model.safetensors")
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    return files, made


class HalfCache(transformers.DynamicCache):
    """Keys and values rounded to float16, as Ebb keeps them."""

    def update(self, keys, values, *arguments, **more):
        return super().update(keys.half().float(), values.half().float(), *arguments, **more)


def results_of(model, family, prompts, half_cache=False):
    """Rows of results of each prompt: logits or hidden values of every token, or one score."""
    found = []
    with torch.inference_mode():
        for tokens, kinds in prompts:
            more = {} if kinds is None else {"token_type_ids": torch.tensor([kinds])}
            if kind_of(family) != "scores" and "Bert" not in family["model"] and "MPNet" not in family["model"]:
                more |= {"use_cache": half_cache} | ({"past_key_values": HalfCache()} if half_cache else {})
            output = model(torch.tensor([tokens]), **more)
            rows = output.last_hidden_state[0] if kind_of(family) == "embeddings" else output.logits
            found.append(rows.reshape(-1, rows.shape[-1]).numpy())
    return found


def kind_of(family):
    return family.get("kind", "embeddings" if "pooling" in family else "logits")


def pooled(rows, family, arrays):
    """The embedding that pooling and the dense layers after it make of all rows, before it is normalized."""
    found = {"mean": rows.mean(0), "cls": rows[0], "lasttoken": rows[-1]}[family["pooling"]]
    for layer in range(len(family.get("dense", []))):
        found = arrays[f"{layer + 2}_Dense/linear.weight"] @ found
    return found


def span(results):
    return max(float(rows.max()) for rows in results) - min(float(rows.min()) for rows in results)


def difference(results, others, reference=None):
    """The largest difference as a part of the range of the results."""
    return max(float(np.abs(a - b).max()) for a, b in zip(results, others)) / span(reference or results)


def sharpness(model, tokens):
    """The mean of the largest attention weight of every row beyond the 8th: 1/n where attention is uniform."""
    with torch.inference_mode():
        maps = model(torch.tensor([tokens]), output_attentions=True).attentions
    return [round(float(layer[0, :, 8:, :].max(-1).values.mean()), 2) for layer in maps]


def margin(model, family, prompts):
    """The least distance between the logits of the last expert that is used and the first that is not."""
    found, hooks = [], []
    used = model.config.num_experts_per_tok

    def hook(module, inputs, output):
        rows = inputs[0].reshape(-1, inputs[0].shape[-1])
        scores = torch.nn.functional.linear(rows, module.weight, getattr(module, "bias", None)).sort(-1, True).values
        found.append(float((scores[:, used - 1] - scores[:, used]).min()))

    for name, module in model.named_modules():
        if name.endswith(family["router"]):
            hooks.append(module.register_forward_hook(hook))
    results_of(model, family, prompts)
    assert found, family["router"]
    for handle in hooks:
        handle.remove()
    return min(found)


def prompts_of(name, family, salt):
    """Pairs of tokens and token types; None: all types are 0."""
    end = family["config"]["vocab_size"]
    start, stop = family.get("ends", (None, None))

    def words(which, count):
        return prng.tokens(f"{name}/{which}/{salt}", count, 4, end)

    if kind_of(family) == "logits":
        return [(words("short", SHORT), None), (words("long", LONG), None)]
    if kind_of(family) == "embeddings":
        return [([start] + words("short", SHORT - 2) + [stop], None), ([start] + words("long", LONG - 2) + [stop], None)]
    pairs = []
    for which, (first, second) in {"short": (4, 5), "middle": (8, 16), "long": (12, 65)}.items():
        tokens = [start] + words(f"{which} query", first) + [stop] + words(f"{which} text", second) + [stop]
        pairs.append((tokens, None))
        if "types" in family:
            pairs.append((tokens, [0] * (first + 2) + [1] * (second + 1)))
    return pairs


def digits(numbers):
    return [float(f"{value:.9g}") for value in numbers]


def answers(family, arrays, model, prompts, results):
    """The fields of a file that hold results."""
    if kind_of(family) == "scores":
        return {"scores": digits(rows[0, 0] for rows in results)}
    last = [[digits(row) for row in rows[-2:]] for rows in results]
    if kind_of(family) == "logits":
        rounded = results_of(model, family, prompts, half_cache=True)
        print(f"  keys and values in float16: {difference(results, rounded):.3g} of the range")
        return {"logits": last, "logits_half_cache": [[digits(row) for row in rows[-2:]] for rows in rounded]}
    return {"hidden": last, "embeddings": [digits(pooled(rows, family, arrays)) for rows in results]}


def make_family(name, family, source, llama, folder):
    """The content of a family's file, and the number of mutations that are not seen."""
    tensors, arrays, files = make_folder(folder, family)
    config = files["config"]
    model = load(folder, family, arrays)
    salt = 0
    prompts = prompts_of(name, family, salt)
    while "router" in family and (gap := margin(model, family, prompts)) < LEAST_MARGIN:
        salt += 1
        prompts = prompts_of(name, family, salt)
    results = results_of(model, family, prompts)
    print(f"{name}: {kind_of(family)} {min(r.min() for r in results):.2f} ... {max(r.max() for r in results):.2f},",
          f"largest attention weights {sharpness(model, prompts[-1][0])}" +
          (f", experts' margin {gap:.4f}" if "router" in family else ""))
    weak = prove(folder, family, arrays, prompts, results)
    made = {"family": config["model_type"], "config": config, "tensors": tensors, "gguf": None}
    if "pooling" in family:
        made |= {"pooling": family["pooling"], "files": files["files"], "modules": files["modules"]}
    made["tokens"] = [tokens for tokens, _ in prompts]
    if any(kinds for _, kinds in prompts):
        made["types"] = [kinds or [0] * len(tokens) for tokens, kinds in prompts]
    if kind_of(family) != "scores":
        made["rows"] = [[len(tokens) - 2, len(tokens) - 1] for tokens, _ in prompts]
    made |= answers(family, arrays, model, prompts, results)
    if family.get("converter", True):
        made["gguf"] = gguf = description.describe(source, folder, arrays, config["architectures"][0])
        made["family"] = gguf["metadata"]["general.architecture"]["value"]
        if "gguf_config" in family:
            other = load(folder, family, arrays, family["gguf_config"])
            others = results_of(other, family, prompts)
            gguf["differs"] = family.get("gguf_differs", family["gguf_config"])
            gguf |= answers(family, arrays, other, prompts, others)
            print(f"  the GGUF says {gguf['differs']}: {difference(results, others):.3g} from the folder")
            results = others
        second_opinion(family, gguf, arrays, config["vocab_size"], folder, llama, prompts, results)
    return made, weak


def prove(folder, family, arrays, prompts, results):
    """Prints what every mutation changes; the number of those that change too little."""
    weak = 0
    for label, change, *least in family["mutations"]:
        others = results_of(load(folder, family, arrays, change), family, prompts)
        each = [difference([a[-2:]], [b[-2:]], results) for a, b in zip(results, others)]
        good = max(each) >= (least[0] if least else LEAST_EFFECT)
        weak += not good
        print(f"  {label}: {', '.join(f'{value:.3g}' for value in each)} of the range" + ("" if good else "  TOO LITTLE"))
    return weak


def second_opinion(family, gguf, arrays, vocab_size, folder, llama, prompts, results):
    """Makes a GGUF from the description, and prints how far llama.cpp's results with it are."""
    path, each, embeddings = folder / "rebuilt.gguf", [], []
    pooling = {"logits": None, "embeddings": libllama.NO_POOLING, "scores": libllama.RANK}[kind_of(family)]
    original = gguf["metadata"].get("phi3.rope.scaling.original_context_length", {}).get("value", 0)
    for (tokens, kinds), result in zip(prompts, results):
        # Its contexts are at least 256 tokens long, so that it always takes the long factors.
        description.rebuild(gguf, arrays, vocab_size, path, family.get("llama_keys", {}), short=len(tokens) <= original)
        if llama is None or kinds is not None:
            continue
        try:
            if "dense" not in family:  # it would run them on every row
                found = llama.run(path, tokens, result.shape[1], pooling, family.get("llama_context", {}))
                each.append(difference([result], [found.reshape(result.shape)], results))
            if "pooling" in family:
                expected = pooled(result, family, arrays)
                found = llama.run(path, tokens, len(expected), libllama.POOLINGS[family["pooling"]], {})
                embeddings.append(difference([expected], [found]))
        except RuntimeError as error:
            print(f"  llama.cpp: {error}")
    parts = [f"{', '.join(f'{value:.3g}' for value in found)} of the range{what}"
             for found, what in ((each, ""), (embeddings, " of the embedding")) if found]
    print(f"  llama.cpp: {'; '.join(parts)}")


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
    for name, family in (decoders.FAMILIES | encoders.FAMILIES).items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made, few = make_family(name, family, source, llama, pathlib.Path(folder))
        weak += few
        (out / f"{name}.json").write_text(text(made))
        print(f"  {(out / f'{name}.json').stat().st_size >> 10} KiB", flush=True)
    return 1 if weak else 0
