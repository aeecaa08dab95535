"""The encoder families: embeddings, and the scores of pairs. Written like decoders.py, and with these:

`kind`: "scores", where not embeddings; `pooling`: what makes an embedding of the tokens' rows; `dense`: the widths of layers
after it; `ends`: the first and the last token of every prompt; `types`: whether pairs have token types; `patch`: what
config.json says other than save_pretrained; `converter`: whether llama.cpp's knows the family; a mutation's third part: its
least effect.
"""
from decoders import GEMMA, LLAMA, fill

BERT = dict(vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=128, type_vocab_size=2, pad_token_id=0)
# Positions count from the padding token's id + 1.
ROBERTA = dict(BERT, max_position_embeddings=130, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2)
MODERNBERT = dict(
    vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=128,
    local_attention=16, global_attn_every_n_layers=3, global_rope_theta=160000.0, local_rope_theta=10000.0, pad_token_id=0,
    bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, reference_compile=False)
WEIGHTS = [(r"(LayerNorm|norm\d?|_ln)\.weight$", 1, 0.5), (r"word_embeddings|tok_embeddings", 0, 1),
           (r"(position|token_type)_embeddings", 0, 0.5), (r"relative_attention_bias", 0, 2)]
HEAD = [(r"^classifier\.(out_proj\.)?weight$", 0, 1)] + WEIGHTS
TANH = ("GELU by tanh", dict(hidden_act="gelu_new"), 1e-6)
NOMIC = dict(
    activation_function="swiglu", architectures=["NomicBertModel"], attn_pdrop=0.0, bos_token_id=None, causal=False,
    dense_seq_output=True, embd_pdrop=0.0, eos_token_id=None, fused_bias_fc=True, fused_dropout_add_ln=True,
    initializer_range=0.02, layer_norm_epsilon=1e-12, max_trained_positions=2048, mlp_fc1_bias=False, mlp_fc2_bias=False,
    model_type="nomic_bert", n_embd=64, n_head=4, n_inner=128, n_layer=2, n_positions=8192, pad_vocab_size_multiple=64,
    parallel_block=False, parallel_block_tied_norm=False, prenorm=False, qkv_proj_bias=False, reorder_and_upcast_attn=False,
    resid_pdrop=0.0, rotary_emb_base=1000, rotary_emb_fraction=1.0, rotary_emb_interleaved=False, rotary_emb_scale_base=None,
    rotary_scaling_factor=None, scale_attn_by_inverse_layer_idx=False, scale_attn_weights=True, summary_activation=None,
    summary_first_dropout=0.0, summary_proj_to_labels=True, summary_type="cls_index", summary_use_proj=True,
    torch_dtype="float32", type_vocab_size=2, use_cache=True, use_flash_attn=True, use_rms_norm=False, use_xentropy=True,
    vocab_size=96)


def no_pooler(model):
    """Scores from the first token's row itself, as a GGUF without BERT's pooler has to make them."""
    model.bert.pooler.forward = lambda hidden: hidden[:, 0]


def near_buckets(model):
    usual = model.encoder.relative_position_bucket
    model.encoder.relative_position_bucket = lambda distance, num_buckets: usual(distance, num_buckets, max_distance=64)


FAMILIES = {
    "bert": dict(
        model="BertModel", config=BERT, pooling="mean", ends=(1, 2), weights=WEIGHTS,
        mutations=[("no positions", fill("position_embeddings", 0.0)), ("no types", fill("token_type_embeddings", 0.0)), TANH,
                   ("no biases", fill("bias", 0.0)), ("epsilon 0.01", dict(layer_norm_eps=0.01), 1e-4)]),
    "nomic-bert": dict(
        model="NomicBertModel", config=NOMIC, pooling="mean", ends=(1, 2), weights=WEIGHTS,
        mutations=[("RoPE base 10000", dict(rotary_emb_base=10000)), ("epsilon 0.01", dict(layer_norm_epsilon=0.01), 1e-4)]),
    "xlm-roberta": dict(
        model="XLMRobertaModel", config=ROBERTA, pooling="cls", ends=(0, 2), weights=WEIGHTS,
        mutations=[("no positions", fill("position_embeddings", 0.0)), ("no types", fill("token_type_embeddings", 0.0)), TANH,
                   ("positions from 0", lambda model: setattr(model.embeddings, "padding_idx", -1))]),
    "mpnet": dict(
        model="MPNetModel", config={k: v for k, v in ROBERTA.items() if k != "type_vocab_size"}, pooling="mean", ends=(0, 2),
        weights=WEIGHTS, converter=False,
        mutations=[("no positions", fill("position_embeddings", 0.0)), TANH,
                   ("no relative positions", fill("relative_attention_bias", 0.0)),
                   ("buckets of 64 positions", near_buckets)]),
    "modernbert": dict(
        model="ModernBertModel",
        config=MODERNBERT,
        patch=dict(layer_norm_eps=1e-5),  # as published; only it is what the converter reads
        pooling="cls", ends=(1, 2), weights=WEIGHTS,
        mutations=[("local attention 14", dict(local_attention=14)), ("local attention 18", dict(local_attention=18)),
                   ("all local but one", dict(global_attn_every_n_layers=4)),
                   ("global base 10000", dict(global_rope_theta=10000.0)), ("local base 160000", dict(local_rope_theta=160000.0)),
                   ("GELU by tanh", dict(hidden_activation="gelu_new"), 1e-6)]),
    "bert-score": dict(
        kind="scores", model="BertForSequenceClassification", config=dict(BERT, num_labels=1), ends=(1, 2), types=True,
        weights=HEAD, gguf_config=no_pooler, gguf_differs="no pooler: the head takes the first token's row",
        mutations=[("no pooler", no_pooler), ("no types", fill("token_type_embeddings", 0.0)),
                   ("no bias of the head", fill("classifier.bias", 0.0))]),
    "xlm-roberta-score": dict(
        kind="scores", model="XLMRobertaForSequenceClassification", config=dict(ROBERTA, num_labels=1), ends=(0, 2),
        weights=HEAD,
        mutations=[("no positions", fill("position_embeddings", 0.0)), ("no dense bias", fill("classifier.dense.bias", 0.0)),
                   ("no bias of the head", fill("classifier.out_proj.bias", 0.0))]),
    "modernbert-score": dict(
        kind="scores", model="ModernBertForSequenceClassification",
        config=dict(MODERNBERT, num_labels=1, classifier_pooling="mean"), patch=dict(layer_norm_eps=1e-5), ends=(1, 2),
        weights=WEIGHTS,
        mutations=[("pooling by the first token", dict(classifier_pooling="cls")),
                   ("norm of the head 1", fill("head.norm", 1.0))]),
    "embeddinggemma": dict(
        model="Gemma3TextModel",
        config=dict(LLAMA, num_hidden_layers=6, head_dim=32, query_pre_attn_scalar=32, sliding_window=24, rope_theta=1000000.0,
                    rope_local_base_freq=10000.0, use_bidirectional_attention=True, tie_word_embeddings=True),
        patch=dict(sliding_window=24), pooling="mean", ends=(1, 2), weights=GEMMA,
        mutations=[("causal", dict(use_bidirectional_attention=False, sliding_window=24)), ("window 22", dict(sliding_window=22)),
                   ("window 26", dict(sliding_window=26)), ("no windows", dict(layer_types=["full_attention"] * 6)),
                   ("global base 10000", dict(rope_theta=10000.0)),
                   ("local base 1000000", dict(rope_local_base_freq=1000000.0))]),
    "qwen3-embedding": dict(
        model="Qwen3Model", config=dict(LLAMA, head_dim=32, tie_word_embeddings=True),
        patch=dict(architectures=["Qwen3ForCausalLM"]), pooling="lasttoken", ends=(1, 2),
        mutations=[("RoPE base 1000", dict(rope_theta=1000.0)), ("q norms 1", fill("q_norm", 1.0))]),
}
FAMILIES["embeddinggemma-dense"] = dict(FAMILIES["embeddinggemma"], dense=[128, 64], mutations=[])
