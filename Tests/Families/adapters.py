"""LoRA adapters of the small models: what PEFT computes with them, and what llama.cpp's converter makes of them.

An adapter changes every matrix of the layers that its targets name; its values come from its tensors' names like those of the
models. Each file holds the folder that PEFT saves (its configuration, names and shapes), and which operation of description.py
makes each of the GGUF's tensors.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import peft
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

import decoders
import description
import make
import weights as prng

ATTENTION, FEED_FORWARD = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
SPREAD = 0.25

ADAPTERS = {
    "llama": dict(r=4, lora_alpha=8, target_modules=ATTENTION + FEED_FORWARD + ["lm_head"]),
    "qwen2": dict(r=3, lora_alpha=4, use_rslora=True, target_modules=ATTENTION + FEED_FORWARD),
    "gemma3": dict(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"]),
    "phi3": dict(r=2, lora_alpha=4, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    "granite": dict(r=2, lora_alpha=6, target_modules=["q_proj", "k_proj", "gate_proj"],
                    rank_pattern={"gate_proj": 5}, alpha_pattern={"layers.1.self_attn.q_proj": 3}),
    "olmoe": dict(r=17, lora_alpha=17, target_modules=ATTENTION),
}
# What llama.cpp's converter does not read: scales of modules, the root of the rank, phi3's fused matrices.
NO_GGUF = {"qwen2", "granite"}


def make_adapter(name, source, folder):
    """The content of an adapter's file."""
    family, base = decoders.FAMILIES[name], folder / "base"
    base.mkdir()
    _, arrays, files = make.make_folder(base, family)
    model = make.load(base, family, arrays)
    reference = json.loads((make_path() / f"{name}.json").read_text())
    prompts = [(tokens, None) for tokens in reference["tokens"]]
    plain = make.results_of(model, family, prompts)
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **ADAPTERS[name]))
    adapted.save_pretrained(folder / "adapter", save_embedding_layers=False)
    path = folder / "adapter/adapter_model.safetensors"
    with safe_open(path, "np") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}
    values = {key: prng.values(key, shape, 0, SPREAD) for key, shape in sorted(shapes.items())}
    save_file(values, path)
    adapted = peft.PeftModel.from_pretrained(make.load(base, family, arrays), folder / "adapter").eval()
    rounded = make.results_of(adapted, family, prompts, half_cache=True)
    print(f"{name}: the adapter changes {make.difference(plain, rounded):.3g} of the range")
    config = json.loads((folder / "adapter/adapter_config.json").read_text())
    config["base_model_name_or_path"] = name
    made = {"model": name, "config": config,
            "tensors": [{"name": key, "shape": list(shapes[key]), "mean": 0, "spread": SPREAD} for key in sorted(shapes)],
            "tokens": reference["tokens"], "rows": reference["rows"],
            "logits_half_cache": [[make.digits(row) for row in rows[-2:]] for rows in rounded], "gguf": None}
    if name not in NO_GGUF:
        made["gguf"] = convert(source, base, folder / "adapter", values, family["config"])
    return made


def convert(source, base, adapter, values, config):
    """The GGUF's alpha and tensors, by llama.cpp's converter."""
    out = adapter / "adapter.gguf"
    subprocess.run([sys.executable, source / "convert_lora_to_gguf.py", adapter, "--base", base, "--outfile", out,
                    "--outtype", "f32"], check=True, capture_output=True)
    reader = gguf.GGUFReader(out)
    heads = {config["num_attention_heads"], config["num_key_value_heads"]}
    alpha = reader.fields["adapter.lora.alpha"]
    tensors = [description.explain(tensor.name, np.array(tensor.data), values, heads)
               for tensor in sorted(reader.tensors, key=lambda tensor: tensor.name)]
    return {"alpha": float(alpha.parts[alpha.data[0]][0]), "tensors": tensors}


def make_path():
    return Path(__file__).resolve().parent.parent / "EngineTests/Reference/families"


def all_adapters(out, source):
    out.mkdir(parents=True, exist_ok=True)
    for name in ADAPTERS:
        with tempfile.TemporaryDirectory() as folder:
            made = make_adapter(name, source, Path(folder))
        (out / f"{name}.json").write_text(make.text(made))
    return 0
