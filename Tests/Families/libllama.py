"""Runs a GGUF with llama.cpp's library, in float32, by ctypes. The structures are those of llama-cpp-python 0.3.36."""
import ctypes
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int32, c_int8, c_size_t, c_uint32, c_void_p

import numpy as np


def fields(text):
    kinds = {"p": c_void_p, "i": c_int32, "u": c_uint32, "f": c_float, "b": c_bool, "z": c_size_t}
    return [(f"{word}", kinds[kind]) for kind, word in (word.split(":") for word in text.split())]


class ModelParams(ctypes.Structure):
    _fields_ = fields("""p:devices p:overrides i:n_gpu_layers i:split_mode i:load_mode i:lazy_mode i:main_gpu p:tensor_split
        p:progress p:progress_data p:kv_overrides b:vocab_only b:check_tensors b:use_extra_bufts
        b:no_host b:no_alloc b:load_mtp""")


class ContextParams(ctypes.Structure):
    _fields_ = fields("""u:n_ctx u:n_batch u:n_ubatch u:n_seq_max u:n_rs_seq u:n_outputs_max u:n_outputs_max_per_seq
        i:n_threads i:n_threads_batch i:ctx_type i:rope_scaling_type i:pooling_type i:attention_type i:flash_attn_type
        f:rope_freq_base f:rope_freq_scale f:yarn_ext_factor f:yarn_attn_factor f:yarn_beta_fast f:yarn_beta_slow
        u:yarn_orig_ctx f:defrag_thold p:cb_eval p:cb_eval_data i:type_k i:type_v p:abort p:abort_data
        b:embeddings b:offload_kqv b:no_perf b:op_offload b:swa_full b:kv_unified p:samplers z:n_samplers p:other""")


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", c_int32), ("token", POINTER(c_int32)), ("embd", POINTER(c_float)), ("pos", POINTER(c_int32)),
                ("n_seq_id", POINTER(c_int32)), ("seq_id", POINTER(POINTER(c_int32))), ("logits", POINTER(c_int8))]


LOGGER = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
NO_POOLING, RANK = 0, 4
POOLINGS = {"mean": 1, "cls": 2, "lasttoken": 3}


class Llama:
    def __init__(self, path):
        lib = self.lib = ctypes.CDLL(path)
        self.messages = []
        self.logger = LOGGER(lambda level, text, _: self.messages.append(text.decode(errors="replace")))
        lib.llama_log_set(self.logger, None)
        lib.llama_model_default_params.restype = ModelParams
        lib.llama_context_default_params.restype = ContextParams
        lib.llama_model_load_from_file.argtypes, lib.llama_model_load_from_file.restype = [c_char_p, ModelParams], c_void_p
        lib.llama_init_from_model.argtypes, lib.llama_init_from_model.restype = [c_void_p, ContextParams], c_void_p
        lib.llama_batch_init.restype = Batch
        lib.llama_decode.argtypes = lib.llama_encode.argtypes = [c_void_p, Batch]
        for name in ("llama_get_logits_ith", "llama_get_embeddings_ith", "llama_get_embeddings_seq"):
            getattr(lib, name).argtypes, getattr(lib, name).restype = [c_void_p, c_int32], POINTER(c_float)
        lib.llama_free.argtypes = lib.llama_model_free.argtypes = [c_void_p]
        lib.llama_backend_init()

    def run(self, path, tokens, width, pooling, settings):
        """Every token's logits [n, width]; with pooling, every token's hidden values or the pooled row."""
        lib = self.lib
        self.messages.clear()
        model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not model:
            raise RuntimeError("llama.cpp does not load it: " + "".join(self.messages[-4:]))
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = max(len(tokens), 1)
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type, params.type_k, params.type_v = 0, 0, 0
        for name, value in settings.items():
            setattr(params, name, value)
        if pooling is not None:
            params.embeddings, params.pooling_type = True, pooling
        context = lib.llama_init_from_model(model, params)
        if not context:
            raise RuntimeError("llama.cpp makes no context: " + "".join(self.messages[-4:]))
        batch = lib.llama_batch_init(len(tokens), 0, 1)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
        batch.n_tokens = len(tokens)
        if lib.llama_decode(context, batch) != 0:
            raise RuntimeError("llama.cpp does not decode: " + "".join(self.messages[-4:]))
        if pooling:
            rows = np.array(lib.llama_get_embeddings_seq(context, 0)[:width], dtype=np.float32)
        else:
            read = lib.llama_get_logits_ith if pooling is None else lib.llama_get_embeddings_ith
            rows = np.array([read(context, i)[:width] for i in range(len(tokens))], dtype=np.float32)
        lib.llama_free(context)
        lib.llama_model_free(model)
        return rows
