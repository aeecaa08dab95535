"""Builds an ONNX graph of a BERT encoder with mean pooling from a Hugging Face folder (opset 17), for onnxruntime."""
import json
import os
import struct

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save


def read_safetensors(path):
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    start = 8 + length
    return {name: np.frombuffer(data[start + t["data_offsets"][0]:start + t["data_offsets"][1]], np.float32)
            .reshape(t["shape"]) for name, t in header.items() if name != "__metadata__" and t["dtype"] == "F32"}


class Graph:
    def __init__(self):
        self.nodes, self.weights, self.count = [], [], 0

    def constant(self, array, name=None):
        self.count += 1
        name = name or f"c{self.count}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind, *inputs, **attributes):
        self.count += 1
        out = f"t{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out


def build(folder, path):
    config = json.load(open(os.path.join(folder, "config.json")))
    w = read_safetensors(os.path.join(folder, "model.safetensors"))
    g = Graph()
    hidden, heads = config["hidden_size"], config["num_attention_heads"]

    def linear(x, name):
        y = g.op("MatMul", x, g.constant(w[name + ".weight"].T))
        return g.op("Add", y, g.constant(w[name + ".bias"]))

    def norm(x, name):
        return g.op("LayerNormalization", x, g.constant(w[name + ".weight"]), g.constant(w[name + ".bias"]), axis=-1,
                    epsilon=config["layer_norm_eps"])

    shape = g.constant(np.array([0, 0, heads, hidden // heads], np.int64))
    flat = g.constant(np.array([0, 0, hidden], np.int64))
    x = g.op("Gather", g.constant(w["embeddings.word_embeddings.weight"]), "ids", axis=0)
    positions = g.op("Gather", g.constant(w["embeddings.position_embeddings.weight"]), "positions", axis=0)
    x = g.op("Add", g.op("Add", x, positions), g.constant(w["embeddings.token_type_embeddings.weight"][0]))
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{layer}."

        def split(name, perm):
            return g.op("Transpose", g.op("Reshape", linear(x, p + "attention.self." + name), shape), perm=perm)

        q, k, v = split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1]), split("value", [0, 2, 1, 3])
        scores = g.op("Mul", g.op("MatMul", q, k), g.constant(np.float32((hidden // heads) ** -0.5)))
        o = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
        o = g.op("Reshape", g.op("Transpose", o, perm=[0, 2, 1, 3]), flat)
        x = norm(g.op("Add", x, linear(o, p + "attention.output.dense")), p + "attention.output.LayerNorm")
        h = linear(x, p + "intermediate.dense")
        e = g.op("Add", g.op("Erf", g.op("Mul", h, g.constant(np.float32(0.5 ** 0.5)))), g.constant(np.float32(1)))
        h = g.op("Mul", g.op("Mul", h, e), g.constant(np.float32(0.5)))
        x = norm(g.op("Add", x, linear(h, p + "output.dense")), p + "output.LayerNorm")
    pooled = g.op("ReduceMean", x, axes=[1], keepdims=0)
    norm2 = g.op("ReduceL2", pooled, axes=[1], keepdims=1)
    g.nodes.append(helper.make_node("Div", [pooled, norm2], ["embedding"]))
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"]),
              helper.make_tensor_value_info("positions", TensorProto.INT64, ["batch", "tokens"])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", hidden])]
    graph = helper.make_graph(g.nodes, "bert", inputs, outputs, g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, path)
