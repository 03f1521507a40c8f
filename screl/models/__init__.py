"""Models: loading, tokenizer rules, prompts, and the doctor that checks a model folder."""
