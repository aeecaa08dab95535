"""NomicBERT in plain torch. transformers has it as code of the model's repository only, which no package holds: these are its
equations as published with nomic-embed-text-v1.5. llama.cpp, which has its own, agrees with them (see what the script prints).

    x = norm(word + type)
    x = norm1(x + out(attention(rope(q), rope(k), v)))     q, k, v: the thirds of Wqkv(x); RoPE over halves of the whole head
    x = norm2(x + fc2(fc11(x) * silu(fc12(x))))
"""
import json
import types

import torch
from torch.nn.functional import layer_norm, silu


class NomicBert:
    def __init__(self, config, arrays):
        self.config = types.SimpleNamespace(**config)
        self.weights = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def named_parameters(self):
        return self.weights.items()

    def eval(self):
        return self

    def norm(self, x, name):
        return layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"],
                          self.config.layer_norm_epsilon)

    def rope(self, x):
        size = x.shape[-1]
        rates = 1.0 / self.config.rotary_emb_base ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
        angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32), rates)
        first, second = x.chunk(2, -1)
        return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1)

    def attention(self, x, layer):
        heads, (count, width) = self.config.n_head, x.shape
        q, k, v = (x @ self.weights[layer + "attn.Wqkv.weight"].T).reshape(count, 3, heads, width // heads).permute(1, 2, 0, 3)
        q, k = self.rope(q), self.rope(k)
        self.maps.append((q @ k.transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1)[None])
        mixed = (self.maps[-1][0] @ v).transpose(0, 1).reshape(count, width)
        return mixed @ self.weights[layer + "attn.out_proj.weight"].T

    def __call__(self, ids, token_type_ids=None, **_):
        self.maps = []
        kinds = torch.zeros_like(ids) if token_type_ids is None else token_type_ids
        words = self.weights["embeddings.word_embeddings.weight"][ids[0]]
        x = self.norm(words + self.weights["embeddings.token_type_embeddings.weight"][kinds[0]], "emb_ln")
        for i in range(self.config.n_layer):
            layer = f"encoder.layers.{i}."
            x = self.norm(x + self.attention(x, layer), layer + "norm1")
            up, gate = (x @ self.weights[layer + f"mlp.{name}.weight"].T for name in ("fc11", "fc12"))
            x = self.norm(x + (up * silu(gate)) @ self.weights[layer + "mlp.fc2.weight"].T, layer + "norm2")
        return types.SimpleNamespace(last_hidden_state=x[None], attentions=self.maps)


def shapes(config):
    width, inner = config["n_embd"], config["n_inner"]
    found = {"embeddings.word_embeddings.weight": [config["vocab_size"], width],
             "embeddings.token_type_embeddings.weight": [config["type_vocab_size"], width]}
    norms = ["emb_ln"]
    for i in range(config["n_layer"]):
        layer = f"encoder.layers.{i}."
        norms += [layer + "norm1", layer + "norm2"]
        found |= {layer + "attn.Wqkv.weight": [3 * width, width], layer + "attn.out_proj.weight": [width, width],
                  layer + "mlp.fc11.weight": [inner, width], layer + "mlp.fc12.weight": [inner, width],
                  layer + "mlp.fc2.weight": [width, inner]}
    return dict(sorted((found | {f"{norm}.{kind}": [width] for norm in norms for kind in ("weight", "bias")}).items()))


def load(folder, arrays, changes):
    config = json.loads((folder / "config.json").read_text())
    return NomicBert(config | (changes if isinstance(changes, dict) else {}), arrays)
