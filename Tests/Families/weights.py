"""The weights of the small models: numbers that a program in any language makes from a tensor's name.

value(i) = mean + spread * k(i) / 64, where k(i) = (top 7 bits of z(i)) - 64, a whole number in -64...63, and z(i) is the
i-th output of splitmix64 whose seed is FNV-1a (64 bits) of the tensor's name in UTF-8; i counts the elements in row order.
All numbers used here are exact in bfloat16 and in float16; `exact` proves it.
"""
import numpy as np

WRAP = (1 << 64) - 1


def fnv1a(name):
    hash = 0xCBF29CE484222325
    for byte in name.encode():
        hash = (hash ^ byte) * 0x100000001B3 & WRAP
    return hash


def splitmix(name, count):
    state = np.uint64(fnv1a(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def values(name, shape, mean, spread):
    """The tensor `name` in float32, checked to be exact in bfloat16 and float16."""
    k = (splitmix(name, int(np.prod(shape))) >> np.uint64(57)).astype(np.int64) - 64
    wide = mean + spread * k / 64.0
    narrow = wide.astype(np.float32)
    assert (narrow == wide).all() and exact(narrow), f"{name}: mean {mean}, spread {spread} are not exact in 16 bits"
    return narrow.reshape(shape)


def exact(numbers):
    half = numbers.astype(np.float16).astype(np.float32)
    return bool((numbers.view(np.uint32) & 0xFFFF == 0).all() and (half == numbers).all())


def tokens(name, count, first, end):
    """`count` token ids in first..<end, made from a name in the same way."""
    return [int(z >> np.uint64(33)) % (end - first) + first for z in splitmix(name, count)]
