"""Writes Tests/ModelFormatTests/Reference/compressed-tensors.json: weights as compressed-tensors packs them, and their values.

    pip install compressed-tensors==0.12.2 torch && python Tests/TensorTypes/compressed.py 0.12.2

and again with 0.9.1, which stores zero points as bytes, and 0.20.0, which has no g_idx. Each run replaces what its version
wrote. Seeded, so that a version writes the same file each time.
"""

import base64
import json
import pathlib
import sys

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

OUT = pathlib.Path(__file__).parent.parent / "ModelFormatTests/Reference/compressed-tensors.json"
NAMES = {torch.int32: "I32", torch.int64: "I64", torch.int8: "I8", torch.float16: "F16", torch.bfloat16: "BF16"}

# Rows and columns that fill no word of zero points, and (with a scale for each channel) no word of integers.
CASES = [
    dict(num_bits=4, k=96, group_size=32, symmetric=True),
    dict(num_bits=4, k=96, group_size=32, symmetric=False),
    dict(num_bits=4, k=96, group_size=32, symmetric=False, actorder="group"),
    dict(num_bits=8, k=70, group_size=-1, symmetric=False),
    dict(num_bits=4, k=70, group_size=-1, symmetric=False),
    dict(num_bits=8, k=96, group_size=16, symmetric=True, scale=torch.bfloat16),
]
ROWS = 12


def stored(tensor):
    data = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy().tobytes()
    return {"type": NAMES[tensor.dtype], "shape": list(tensor.shape), "data": base64.b64encode(data).decode()}


def compressed(args, state, values, scales):
    """The module's tensors, and the values that the program makes of them."""
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    if hasattr(compressor, "compress_weight"):
        packer = compressor(config=None)
        packed = packer.compress_weight(
            weight=values, scale=scales, quantization_args=args, zero_point=state["weight_zero_point"],
            g_idx=state.get("weight_g_idx"))
        state = {**state, **packed}
        # 0.12 packs zero points, but does not unpack them.
        if "weight_zero_point" in packed:
            return state, values
        return state, packer.decompress_weight({**state, "weight_scale": scales}, quantization_args=args)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    packed = compressor.compress({**state, "weight": values, "weight_scale": scales}, scheme)
    again = compressor.decompress(packed, scheme)["weight"]
    return {**packed, "weight_scale": state["weight_scale"]}, again


def made(k, scale=torch.float16, **said):
    said["strategy"] = "channel" if said["group_size"] == -1 else "group"
    args = QuantizationArgs(type="int", dynamic=False, **said)
    group = k if said["group_size"] == -1 else said["group_size"]
    groups, half = k // group, 1 << (said["num_bits"] - 1)
    q = torch.randint(-half, half, (ROWS, k))
    zero = torch.zeros(ROWS, groups, dtype=torch.int64)
    if not said["symmetric"]:
        zero = torch.randint(-half + 1, half, (ROWS, groups))
    # Steps of few bits: products with integers are exact in floats.
    scales = torch.randint(1, 8, (ROWS, groups)) * 2.0**-7
    order = torch.arange(k) // group
    if "actorder" in said:
        order = order[torch.randperm(k)]
    places = order.expand(ROWS, k)
    values = (scales.gather(1, places) * (q - zero.gather(1, places))).float()
    state = {"weight_scale": scales.to(scale), "weight_zero_point": zero.to(torch.int8)}
    if "actorder" in said:
        state["weight_g_idx"] = order.to(torch.int32)
    state, again = compressed(args, state, values, scales)
    assert torch.equal(again.float(), values)
    # As saving does: symmetric weights have no zero points.
    if said["symmetric"]:
        state.pop("weight_zero_point", None)
    state.pop("weight", None)
    return {
        "weights": {**said, "type": "int", "dynamic": False},
        "tensors": {name: stored(tensor) for name, tensor in sorted(state.items())},
        "values": base64.b64encode(values.numpy().tobytes()).decode(),
    }


def main(version):
    torch.manual_seed(17)
    found = json.loads(OUT.read_text()) if OUT.exists() else {}
    minor = int(version.split(".")[1])
    cases = [case for case in CASES if minor < 15 or "actorder" not in case]
    cases = [case for case in cases if minor >= 10 or not case["symmetric"]]
    found[version] = [made(**case) for case in cases]
    OUT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


main(sys.argv[1])
