"""What the gguf package makes of random blocks of the tensor types that came after the K-quants, for tests to compare with,
and the grids of its IQ types as GGMLGrids.swift has them.

    python3 -m pip install gguf==0.19.0
    references.py Tests/ModelFormatTests/Reference/tensor-types.json [--ggml libggml-base.so]
    references.py --grids

Rows are random bytes from a fixed seed, with scales that are finite numbers. Q1_0 and Q2_0 are not in the package: they come
from ggml's own library (llama-cpp-python 0.3.36 vendors it), or stay as the file has them; with the library all others are
compared with it too.
"""
import argparse, base64, ctypes, importlib.metadata, json, os, sys
import numpy as np
import gguf
from gguf import quants

SEED, ROWS, WIDTH = 20250, 2, 512
# Name: number, values in a block, bytes of a block, where f16 scales lie.
TYPES = {
    "IQ2_XXS": (16, 256, 66, [0]), "IQ2_XS": (17, 256, 74, [0]), "IQ3_XXS": (18, 256, 98, [0]),
    "IQ1_S": (19, 256, 50, [0]), "IQ4_NL": (20, 32, 18, [0]), "IQ3_S": (21, 256, 110, [0]),
    "IQ2_S": (22, 256, 82, [0]), "IQ4_XS": (23, 256, 136, [0]), "IQ1_M": (29, 256, 56, []),
    "TQ1_0": (34, 256, 54, [52]), "TQ2_0": (35, 256, 66, [64]), "MXFP4": (39, 32, 17, []),
    "NVFP4": (40, 64, 36, []), "Q1_0": (41, 128, 18, [0]), "Q2_0": (42, 64, 18, [0]),
}
GRIDS = ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]


def finite(blocks, name):
    """Replaces scales that are no numbers."""
    for at in TYPES[name][3]:
        high = blocks[:, at + 1]
        blocks[:, at + 1] = np.where(high & 0x7C == 0x7C, high & 0xBF, high)
    if name == "MXFP4":  # 12 * 2^(252 - 128) is the largest that a float holds
        blocks[:, 0] %= 253
    if name == "IQ1_M":  # the scale's top four bits are those of the last byte
        blocks[:, 55] = np.where(blocks[:, 55] & 0x70 == 0x70, blocks[:, 55] & 0xBF, blocks[:, 55])
    return blocks


def by_library(library, name, row):
    out = np.empty(WIDTH, np.float32)
    function = getattr(library, "dequantize_row_" + name.lower())
    function(row.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(WIDTH))
    return out


def by_package(name, row):
    return quants.dequantize(row, gguf.GGMLQuantizationType[name]).astype(np.float32).reshape(-1)


def references(library, before):
    random, types = np.random.default_rng(SEED), {}
    for name, (number, length, size, _) in TYPES.items():
        rows = []
        for _ in range(ROWS):
            row = finite(random.integers(0, 256, (WIDTH // length, size), dtype=np.uint8), name).reshape(-1)
            in_package = name not in ("Q1_0", "Q2_0")
            values = by_package(name, row) if in_package else by_library(library, name, row) if library else None
            if library and in_package:
                assert (values == by_library(library, name, row)).all(), name
            if values is not None:
                assert np.isfinite(values).all(), name
                rows.append({"bytes": base64.b64encode(row.tobytes()).decode(),
                             "values": base64.b64encode(values.astype("<f4").tobytes()).decode()})
        types[name] = {"number": number, "width": WIDTH, "rows": rows or before["types"][name]["rows"]}
    return types


def points(name):
    """The numbers of a grid's points: a digit for each value, the first one the lowest."""
    kind = getattr(quants, name)
    kind.init_grid()
    digit = {float(v): i for i, v in enumerate(kind.grid_map)}
    return [sum(digit[float(v)] * len(digit) ** i for i, v in enumerate(point)) for point in kind.grid.reshape(kind.grid_shape)]


def fnv(values):
    h = 0xCBF29CE484222325
    for value in values:
        h = ((h ^ (int(value) & 0xFF)) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def grid_digests():
    """FNV-1a of each grid's values as bytes, point by point."""
    return {name: f"{fnv(getattr(quants, name).grid.reshape(-1)):016x}" for name in GRIDS if points(name)}


def print_grids():
    """A bit for each number that is a point, in words of 64, as Swift writes them."""
    for name in GRIDS:
        found = points(name)
        assert found == sorted(set(found)), "a grid is a set, in ascending order"
        kind = getattr(quants, name)
        bits = sum(1 << point for point in found)
        words = [bits >> at & 0xFFFFFFFFFFFFFFFF for at in range(0, len(kind.grid_map) ** kind.grid_shape[1], 64)]
        print(f"    // {name}: {kind.grid_shape}, digits {[int(v) for v in kind.grid_map]}")
        for at in range(0, len(words), 6):
            print("        " + " ".join(f"0x{word:x}," for word in words[at:at + 6]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("target", nargs="?")
    parser.add_argument("--ggml")
    parser.add_argument("--grids", action="store_true")
    options = parser.parse_args()
    if options.grids:
        return print_grids()
    library = ctypes.CDLL(options.ggml) if options.ggml else None
    before = json.load(open(options.target)) if os.path.exists(options.target) else {}
    result = {"package": "gguf " + importlib.metadata.version("gguf"), "seed": SEED, "grids": grid_digests(),
              "types": references(library, before)}
    with open(options.target, "w") as out:
        json.dump(result, out, indent=1)
        out.write("\n")


main()
