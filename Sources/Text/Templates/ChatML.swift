extension ChatTemplate {
    /// The ChatML format, which many models know: each turn between `<|im_start|>role` and `<|im_end|>`.
    public static let chatML = """
        {%- for message in messages -%}
        <|im_start|>{{ message.role }}
        {{ message.content or '' }}<|im_end|>
        {% endfor -%}
        {%- if add_generation_prompt -%}
        <|im_start|>assistant
        {% endif -%}
        """
}
