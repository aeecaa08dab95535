extension KnownJSON {
    /// Keys of any config.json that no result depends on.
    static let anyHarmless: Set<String> = [
        // Where it comes from, and with what it was written.
        "_name_or_path", "_commit_hash", "name", "architectures", "transformers_version", "tokenizer_class", "language",
        "transformers.js_config", "torch_dtype", "dtype", "torchscript", "attn_implementation",
        "_attn_implementation", "_attn_implementation_autoset",
        // Training.
        "attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "initializer_range",
        "gradient_checkpointing", "layerdrop", "finetuning_task", "problem_type", "task_specific_params",
        "attention_dropout",
        // How the original is run, not what comes out.
        "use_cache", "chunk_size_feed_forward", "output_attentions", "output_hidden_states", "output_past",
        "return_dict", "use_return_dict", "output_scores", "return_dict_in_generate", "xla_device",
        "tf_legacy_loss", "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
        "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
        "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
        "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
        "suppress_tokens", "begin_suppress_tokens", "decoder_start_token_id", "prefix",
        // What scores are called.
        "id2label", "label2id", "num_labels",
        // Token ids: the tokenizer says them.
        "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id",
    ]

    /// Keys of any config.json that change nothing with these values, or null.
    static let anyNeutral: [String: [Value]] = [
        "is_decoder": [.bool(false)], "add_cross_attention": [.bool(false)], "is_encoder_decoder": [.bool(false)],
        "cross_attention_hidden_size": [], "pruned_heads": [.empty], "use_bfloat16": [.bool(false)],
    ]
}
