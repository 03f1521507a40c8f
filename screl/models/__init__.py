"""Load models and tokenizers, build prompts, and check model folders."""
