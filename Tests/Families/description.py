"""What llama.cpp's converter makes of a Hugging Face folder, said so that a test can make it again.

The converter itself runs on the folder, without a tokenizer. Each tensor that it writes is then found among the folder's
tensors: every one is its own pseudo-random sequence, so that one operation at most fits. `rebuild` makes the tensors from the
description alone, for the comparison with what the converter wrote and for llama.cpp to run.
"""
import json
import sys

import numpy as np


def permute(tensor, heads):
    """Rows of every head from halves (0, 1, ... | n/2, ...) to pairs (0, n/2, 1, n/2 + 1, ...)."""
    return tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def apply(entry, sources):
    """The tensor of one entry of gguf.tensors; sources are the arrays that its "from" names."""
    op = entry["op"]
    if op == "values":
        return np.array(entry["values"], dtype=np.float32)
    if op == "stack":
        return np.stack(sources)
    (tensor,) = sources
    if op == "copy":
        return tensor
    if op == "add_one":
        return tensor + np.float32(1)
    if op == "permute":
        return permute(tensor, entry["heads"])
    if op == "rows":
        return tensor[entry["first"]:entry["first"] + entry["count"]]
    if op == "transpose":
        return tensor.swapaxes(-1, -2)
    if op == "columns":
        return tensor[..., entry["first"]::entry["step"]]
    if op == "columns_transpose":
        return tensor[..., entry["first"]::entry["step"]].swapaxes(-1, -2)
    raise ValueError(op)


def candidates(weights, heads):
    """Entries without names that might make a tensor from one of the folder's."""
    for name in weights:
        yield {"from": [name], "op": "copy"}
        yield {"from": [name], "op": "add_one"}
        for count in sorted(heads):
            if weights[name].ndim and weights[name].shape[0] % (2 * count) == 0:
                yield {"from": [name], "op": "permute", "heads": count}
        yield {"from": [name], "op": "rows", "first": 2, "count": weights[name].shape[0] - 2}
        if weights[name].ndim > 1:
            yield {"from": [name], "op": "transpose"}
        for first in (0, 1):
            yield {"from": [name], "op": "columns", "first": first, "step": 2}
            if weights[name].ndim > 1:
                yield {"from": [name], "op": "columns_transpose", "first": first, "step": 2}


def explain(name, tensor, weights, heads):
    """The entry that makes `tensor` from the folder's tensors."""
    for entry in candidates(weights, heads):
        made = apply(entry, [weights[entry["from"][0]]])
        if made.shape == tensor.shape and (made == tensor).all():
            return {"name": name, "shape": list(tensor.shape), **entry}
    if tensor.ndim == 3:
        parts = [explain(name, part, weights, heads) for part in tensor]
        assert all(part["op"] == "copy" for part in parts), name
        return {"name": name, "shape": list(tensor.shape), "from": [part["from"][0] for part in parts], "op": "stack"}
    assert tensor.ndim == 1 and tensor.size <= 64, f"{name} {tensor.shape} is not explained"
    numbers = [float(f"{number:.9g}") for number in tensor]
    return {"name": name, "shape": list(tensor.shape), "from": [], "op": "values", "values": numbers}


def describe(source, folder, weights, architecture):
    """gguf's metadata and tensors for the folder, by the converter in llama.cpp's source tree `source`."""
    sys.path.insert(0, str(source))
    import conversion
    import gguf
    import torch

    model_class = conversion.get_model_class(architecture)
    config = json.loads((folder / "config.json").read_text())

    class Quiet(model_class):
        model_arch = model_class.model_arch

        def set_vocab(self):
            if "type_vocab_size" in self.hparams:  # what the vocabularies of BERT's kin set on the way
                self.gguf_writer.add_token_type_count(self.hparams["type_vocab_size"])
            self._set_vocab_none()

        def _is_tokenizer_xlmroberta(self):
            return False

    Quiet.__name__ = model_class.__name__
    # What the converters of Gemma and NomicBERT read to count the tokens.
    tokenizer = {"model": {"type": "WordPiece", "vocab": {f"t{i}": i for i in range(config["vocab_size"])}}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    out = folder / "converted.gguf"
    with torch.inference_mode():
        Quiet(folder, gguf.LlamaFileType.ALL_F32, out, eager=True, sentence_transformers_dense_modules=True).write()
    reader = gguf.GGUFReader(out)
    metadata = {}
    for key, field in reader.fields.items():
        kept = ("general.architecture", "tokenizer.ggml.token_type_count")  # the latter tells of weights, too
        if key.startswith(("GGUF.", "tokenizer.", "general.")) and key not in kept:
            continue
        kinds = [kind.name.lower() for kind in field.types]
        value = field.contents()
        if kinds[-1] == "float32":
            value = [float(f"{v:.9g}") for v in value] if isinstance(value, list) else float(f"{value:.9g}")
        metadata[key] = {"type": " ".join(kinds), "value": value}
    heads = {config.get("num_attention_heads", config.get("n_head")), config.get("num_key_value_heads")} - {None}
    tensors = []
    for tensor in reader.tensors:
        shape = [int(n) for n in reversed(tensor.shape)]
        tensors.append(explain(tensor.name, np.array(tensor.data, dtype=np.float32).reshape(shape), weights, heads))
    return {"metadata": metadata, "tensors": tensors}


def rebuild(description, weights, vocab_size, path, more, short=False):
    """A GGUF of float32 tensors made from the description alone, without a vocabulary.

    more: float values of further keys; short: whether RoPE's short factors stand in the place of the long ones, too.
    """
    import gguf

    architecture = description["metadata"]["general.architecture"]["value"]
    writer = gguf.GGUFWriter(path, architecture)
    for key, field in description["metadata"].items():
        if key == "general.architecture":
            continue
        kinds = field["type"].split()
        kind = gguf.GGUFValueType[kinds[0].upper()]
        writer.add_key_value(key, field["value"], kind, gguf.GGUFValueType[kinds[1].upper()] if len(kinds) > 1 else None)
    if f"{architecture}.vocab_size" not in description["metadata"]:
        writer.add_vocab_size(vocab_size)
    for key, value in more.items():
        writer.add_float32(key, value)
    writer.add_tokenizer_model("none")
    for entry in description["tensors"]:
        if short and entry["name"] == "rope_factors_long.weight":
            entry = dict(next(e for e in description["tensors"] if "factors_short" in e["name"]), name=entry["name"])
        writer.add_tensor(entry["name"], np.ascontiguousarray(apply(entry, [weights[name] for name in entry["from"]])))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
