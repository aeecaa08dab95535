"""The decoder families: configurations, the spreads of their weights, and mutations that must be seen in the logits.

A mutation is (label, config values) or (label, function of the model). `gguf_config` holds the config values that a reader of
the GGUF alone is left with, where llama.cpp's converter drops or fixes a setting; `llama_context` and `llama_keys` tell
llama.cpp what it does not read in the GGUF.
"""
import math

BASE = dict(vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            tie_word_embeddings=False)

# (pattern of the tensor's name, mean, spread), the first that matches.
USUAL = [(r"norm", 1, 0.5), (r"bias$", 0, 0.5), (r"embed_tokens", 0, 1),
         (r"(mlp\.gate|router)\.weight", 0, 0.5), (r"", 0, 0.25)]
TIED = [(r"embed_tokens", 0, 0.25)]
GEMMA = [(r"norm", 0, 0.5)] + TIED


def fill(pattern, value):
    """Sets all parameters whose names hold `pattern` to a value."""
    def change(model):
        found = [p for name, p in model.named_parameters() if pattern in name]
        assert found, pattern
        for parameter in found:
            parameter.data.fill_(value)
    return change


def attribute(pattern, **values):
    """Sets attributes of all modules whose class names hold `pattern`."""
    def change(model):
        found = [m for m in model.modules() if pattern in type(m).__name__]
        assert found, pattern
        for module in found:
            for name, value in values.items():
                assert hasattr(module, name), name
                setattr(module, name, value)
    return change


def no_biases(model):
    fill("bias", 0.0)(model)


def factors(first, step, count):
    return [first + step * i for i in range(count)]


def longrope(count):
    return dict(type="longrope", short_factor=factors(1.0, 0.25, count), long_factor=factors(1.0, 1.5, count))


LLAMA = dict(BASE, rope_theta=10000.0, head_dim=16)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
GPT_OSS_YARN = dict(rope_type="yarn", factor=8.0, beta_fast=32.0, beta_slow=1.0, original_max_position_embeddings=32)
WINDOWS = ["sliding_attention", "full_attention"]

FAMILIES = {
    "llama": dict(
        model="LlamaForCausalLM", config=LLAMA,
        mutations=[("RoPE base 1000", dict(rope_theta=1000.0)), ("epsilon 0.01", dict(rms_norm_eps=0.01)),
                   ("norms 1", fill("norm.weight", 1.0))]),
    "llama-bias": dict(
        model="LlamaForCausalLM", config=dict(LLAMA, attention_bias=True),
        mutations=[("no biases", no_biases), ("no bias of o", fill("o_proj.bias", 0.0)),
                   ("no bias of q", fill("q_proj.bias", 0.0)), ("no bias of k", fill("k_proj.bias", 0.0)),
                   ("no bias of v", fill("v_proj.bias", 0.0))]),
    "llama-linear": dict(
        model="LlamaForCausalLM", config=dict(LLAMA, rope_scaling=dict(rope_type="linear", factor=4.0)),
        mutations=[("no scaling", dict(rope_scaling=None)),
                   ("factor 2", dict(rope_scaling=dict(rope_type="linear", factor=2.0)))]),
    "llama-llama3": dict(
        model="LlamaForCausalLM", config=dict(LLAMA, head_dim=32, rope_scaling=LLAMA3),
        mutations=[("no scaling", dict(rope_scaling=None)), ("factor 4", dict(rope_scaling=dict(LLAMA3, factor=4.0))),
                   ("high factor 2", dict(rope_scaling=dict(LLAMA3, high_freq_factor=2.0))),
                   ("low factor 2", dict(rope_scaling=dict(LLAMA3, low_freq_factor=2.0)))]),
    "llama-yarn": dict(
        model="LlamaForCausalLM", config=dict(LLAMA, head_dim=32, max_position_embeddings=128, rope_scaling=YARN),
        mutations=[("no scaling", dict(rope_scaling=None)), ("linear", dict(rope_scaling=dict(rope_type="linear", factor=4.0))),
                   ("attention factor 1", dict(rope_scaling=dict(YARN, attention_factor=1.0))),
                   ("original context 64", dict(rope_scaling=dict(YARN, original_max_position_embeddings=64)))]),
    "llama-yarn-set": dict(
        model="LlamaForCausalLM",
        config=dict(LLAMA, head_dim=32, max_position_embeddings=128, rope_theta=1000.0,
                    rope_scaling=dict(YARN, beta_fast=2.0, beta_slow=0.25)),
        llama_context=dict(yarn_beta_fast=2.0, yarn_beta_slow=0.25),
        mutations=[("no scaling", dict(rope_scaling=None)), ("usual betas", dict(rope_scaling=YARN)),
                   ("usual beta fast", dict(rope_scaling=dict(YARN, beta_slow=0.25))),
                   ("usual beta slow", dict(rope_scaling=dict(YARN, beta_fast=2.0)))]),
    "llama-yarn-factor": dict(
        model="LlamaForCausalLM",
        config=dict(LLAMA, head_dim=32, max_position_embeddings=128, rope_scaling=dict(YARN, attention_factor=1.5)),
        llama_keys={"llama.rope.scaling.attn_factor": 1.5 / (1 + 0.1 * math.log(4))},
        mutations=[("usual attention factor", dict(rope_scaling=YARN)),
                   ("attention factor 1", dict(rope_scaling=dict(YARN, attention_factor=1.0)))]),
    "mistral": dict(
        model="MistralForCausalLM", config=dict(LLAMA, head_dim=32, sliding_window=24), gguf_config=dict(sliding_window=None),
        mutations=[("no window", dict(sliding_window=None)), ("window 23", dict(sliding_window=23)),
                   ("window 25", dict(sliding_window=25))]),
    "qwen2": dict(
        model="Qwen2ForCausalLM", config=dict(BASE, rope_theta=10000.0, tie_word_embeddings=True), weights=TIED,
        mutations=[("no biases", no_biases), ("no bias of q", fill("q_proj.bias", 0.0)),
                   ("no bias of k", fill("k_proj.bias", 0.0)), ("RoPE base 1000", dict(rope_theta=1000.0))]),
    "qwen3": dict(
        model="Qwen3ForCausalLM", config=dict(LLAMA, head_dim=32, tie_word_embeddings=True), weights=TIED,
        mutations=[("q norms 1", fill("q_norm", 1.0)), ("k norms 1", fill("k_norm", 1.0)),
                   ("RoPE base 1000", dict(rope_theta=1000.0))]),
    "gemma2": dict(
        model="Gemma2ForCausalLM",
        config=dict(LLAMA, num_hidden_layers=4, head_dim=32, tie_word_embeddings=True, query_pre_attn_scalar=16,
                    attn_logit_softcapping=2.0, final_logit_softcapping=3.0, sliding_window=24, layer_types=WINDOWS * 2),
        gguf_config=dict(query_pre_attn_scalar=32), weights=GEMMA,
        mutations=[("no cap of scores", dict(attn_logit_softcapping=None)),
                   ("no cap of logits", dict(final_logit_softcapping=None)),
                   ("scale of queries", dict(query_pre_attn_scalar=32)), ("window 23", dict(sliding_window=23)),
                   ("windows in the other layers", dict(layer_types=WINDOWS[::-1] * 2)),
                   ("no windows", dict(layer_types=["full_attention"] * 4)),
                   ("norm after attention 1", fill("post_attention_layernorm", 0.0)),
                   ("norm after feed-forward 1", fill("post_feedforward_layernorm", 0.0))]),
    "gemma3": dict(
        model="Gemma3ForCausalLM",
        config=dict(LLAMA, num_hidden_layers=6, head_dim=32, tie_word_embeddings=True, query_pre_attn_scalar=16,
                    sliding_window=24, rope_theta=1000000.0, rope_local_base_freq=10000.0,
                    rope_scaling=dict(rope_type="linear", factor=8.0)),
        gguf_config=dict(query_pre_attn_scalar=32), weights=GEMMA,
        mutations=[("global base 10000", dict(rope_theta=10000.0)), ("local base 1000000", dict(rope_local_base_freq=1000000.0)),
                   ("no scaling", dict(rope_scaling=None)), ("scale of queries", dict(query_pre_attn_scalar=32)),
                   ("window 23", dict(sliding_window=23)), ("no windows", dict(layer_types=["full_attention"] * 6)),
                   ("q norms 1", fill("q_norm", 0.0)), ("k norms 1", fill("k_norm", 0.0))]),
    "phi3": dict(
        model="Phi3ForCausalLM",
        config=dict(BASE, rope_theta=10000.0, max_position_embeddings=128, original_max_position_embeddings=32,
                    sliding_window=None, rope_scaling=longrope(8)),
        mutations=[("no scaling", dict(rope_scaling=None)),
                   ("short factors 1", dict(rope_scaling=dict(longrope(8), short_factor=[1.0] * 8))),
                   ("long factors 1", dict(rope_scaling=dict(longrope(8), long_factor=[1.0] * 8))),
                   ("attention factor of length 1024", dict(max_position_embeddings=1024))]),
    "phi3-window": dict(
        model="Phi3ForCausalLM",
        config=dict(BASE, rope_theta=10000.0, original_max_position_embeddings=256, sliding_window=24, rope_scaling=None),
        mutations=[("no window", dict(sliding_window=None)), ("window 23", dict(sliding_window=23)),
                   ("window 25", dict(sliding_window=25))]),
    "phi3-partial": dict(
        model="Phi3ForCausalLM",
        config=dict(BASE, rope_theta=10000.0, max_position_embeddings=128, original_max_position_embeddings=32,
                    sliding_window=None, partial_rotary_factor=0.75, tie_word_embeddings=True, rope_scaling=longrope(6)),
        weights=TIED,
        mutations=[("no scaling", dict(rope_scaling=None)),
                   ("all dimensions", dict(partial_rotary_factor=1.0, rope_scaling=longrope(8))),
                   ("short factors 1", dict(rope_scaling=dict(longrope(6), short_factor=[1.0] * 6))),
                   ("long factors 1", dict(rope_scaling=dict(longrope(6), long_factor=[1.0] * 6)))]),
    "granite": dict(
        model="GraniteForCausalLM",
        config=dict(BASE, rope_theta=10000.0, embedding_multiplier=4.0, attention_multiplier=0.125, residual_multiplier=0.5,
                    logits_scaling=2.0),
        mutations=[("embedding 1", dict(embedding_multiplier=1.0)), ("attention 1/4", dict(attention_multiplier=0.25)),
                   ("residual 1", dict(residual_multiplier=1.0)), ("logits 1", dict(logits_scaling=1.0))]),
    "smollm3": dict(
        model="SmolLM3ForCausalLM",
        config=dict(BASE, rope_theta=10000.0, num_hidden_layers=4, tie_word_embeddings=True, use_sliding_window=False,
                    no_rope_layers=[1, 1, 1, 0]), weights=TIED,
        mutations=[("RoPE in all layers", dict(no_rope_layers=[1, 1, 1, 1])),
                   ("no RoPE in the first", dict(no_rope_layers=[0, 1, 1, 1]))]),
    "olmo2": dict(
        model="Olmo2ForCausalLM", config=dict(BASE, rope_theta=10000.0),
        mutations=[("q norms 1", fill("q_norm", 1.0)), ("k norms 1", fill("k_norm", 1.0)),
                   ("norm after attention 1", fill("post_attention_layernorm", 1.0)),
                   ("norm after feed-forward 1", fill("post_feedforward_layernorm", 1.0))]),
    "qwen3moe": dict(
        model="Qwen3MoeForCausalLM",
        config=dict(LLAMA, head_dim=32, moe_intermediate_size=64, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True,
                    decoder_sparse_step=1, mlp_only_layers=[]), router="mlp.gate",
        mutations=[("weights not normalized", dict(norm_topk_prob=False)), ("one expert", dict(num_experts_per_tok=1)),
                   ("three experts", dict(num_experts_per_tok=3)), ("q norms 1", fill("q_norm", 1.0))]),
    "olmoe": dict(
        model="OlmoeForCausalLM",
        config=dict(BASE, rope_theta=10000.0, num_key_value_heads=4, intermediate_size=64, num_experts=4, num_experts_per_tok=2,
                    norm_topk_prob=False), router="mlp.gate",
        mutations=[("weights normalized", dict(norm_topk_prob=True)), ("one expert", dict(num_experts_per_tok=1)),
                   ("q norms 1", fill("q_norm", 1.0)), ("k norms 1", fill("k_norm", 1.0))]),
    "gpt-oss": dict(
        model="GptOssForCausalLM",
        config=dict(LLAMA, num_hidden_layers=4, head_dim=32, intermediate_size=64, num_local_experts=4, num_experts_per_tok=2,
                    sliding_window=24, layer_types=WINDOWS * 2, rope_theta=10000.0, attention_bias=True, swiglu_limit=7.0,
                    rope_scaling=dict(GPT_OSS_YARN, truncate=False)),
        gguf_config=dict(rope_scaling=GPT_OSS_YARN), router="mlp.router",
        weights=[(r"sinks", 2, 1), (r"gate_up_proj$", 0, 1), (r"down_proj$", 0, 0.0625)],
        mutations=[("no sinks", fill("sinks", -1e4)), ("no scaling", dict(rope_scaling=None)),
                   ("truncated YaRN", dict(rope_scaling=GPT_OSS_YARN)),
                   ("attention factor 1", dict(rope_scaling=dict(GPT_OSS_YARN, truncate=False, attention_factor=1.0))),
                   ("window 23", dict(sliding_window=23)), ("windows in the other layers", dict(layer_types=WINDOWS[::-1] * 2)),
                   ("no clamp", attribute("Experts", limit=1e9)), ("alpha 1", attribute("Experts", alpha=1.0)),
                   ("no biases of q", fill("q_proj.bias", 0.0)), ("no biases of k", fill("k_proj.bias", 0.0)),
                   ("no biases of v", fill("v_proj.bias", 0.0)), ("no biases of o", fill("o_proj.bias", 0.0)),
                   ("no biases of the router", fill("router.bias", 0.0)),
                   ("no biases of gate and up", fill("gate_up_proj_bias", 0.0)),
                   ("no biases of down", fill("down_proj_bias", 0.0)), ("one expert", dict(num_experts_per_tok=1))]),
}
