"""Write small models with the chat templates of well-known ones, for tests."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tests.conftest import MINI_MODEL, ROOT

TEMPLATES = ROOT / "tests/data/chat_templates"
# template -> (BOS, EOS, end of turn, the other control tokens). Phi-3's swallow the space after
# them, and <think> is a token of its own but not a special one, as in Qwen3.
CHAT_MODELS: dict[str, tuple[str | None, str, str, list[str]]] = {
    "smollm2": ("<|im_start|>", "<|im_end|>", "<|im_end|>", []),
    "llama3": (
        "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>",
        ["<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"],
    ),
    "qwen2_5": (None, "<|endoftext|>", "<|im_end|>", ["<|im_start|>"]),
    "qwen3": (None, "<|im_end|>", "<|im_end|>", ["<|im_start|>", "<|endoftext|>"]),
    "qwen3_thinking": (None, "<|im_end|>", "<|im_end|>", ["<|im_start|>", "<|endoftext|>"]),
    "gemma": ("<bos>", "<eos>", "<end_of_turn>", ["<start_of_turn>"]),
    "mistral": ("<s>", "</s>", "</s>", ["[INST]", "[/INST]"]),
    "phi3": ("<s>", "<|endoftext|>", "<|end|>", ["<|user|>", "<|assistant|>", "<|system|>"]),
    "deepseek_r1": (
        "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
        ["<｜User｜>", "<｜Assistant｜>"],
    ),
}  # fmt: skip


def write_chat_model(kind: str, folder: Path) -> Path:
    """Save a random LLaMA with the miniature's vocabulary and the chat template of ``kind``.

    The tokenizer adds a BOS to plain texts, as LLaMA's and Gemma's do, so that a text with the
    template's BOS would get a second one.
    """
    import torch

    bos, eos, end, others = CHAT_MODELS[kind]
    tokenizer: Any = AutoTokenizer.from_pretrained(MINI_MODEL)
    named = {"eos_token": eos, "pad_token": eos} | ({"bos_token": bos} if bos else {})
    if bos is None:
        tokenizer.bos_token = None
    control = dict.fromkeys([*filter(None, [bos]), eos, end, *others])
    swallow = kind == "phi3"
    tokenizer.add_tokens([AddedToken(t, special=True, rstrip=swallow) for t in control])
    tokenizer.add_tokens([AddedToken(t, special=False) for t in ("<think>", "</think>")])
    tokenizer.add_special_tokens(named)
    before = f"{bos} " if bos else ""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{before}$A", pair=f"{before}$A $B",
        special_tokens=[(bos, tokenizer.convert_tokens_to_ids(bos))] if bos else [],
    )  # fmt: skip
    tokenizer.chat_template = (TEMPLATES / f"{kind}.jinja").read_text(encoding="utf-8")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=1024, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
