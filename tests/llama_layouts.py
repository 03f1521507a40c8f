"""Write small checkpoints in the layouts that LLaMA models have had over the years."""

import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import SentencePieceExtractor

from screl.core.problems import load_problems
from tests.conftest import MINI_MODEL

N_PIECES = 448
# What transformers 4.29 wrote into tokenizer_config.json.
SLOW = {
    "add_bos_token": True,
    "add_eos_token": False,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 512,
    "pad_token": None,
    "padding_side": "right",
    "sp_model_kwargs": {},
    "tokenizer_class": "LlamaTokenizer",
}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
PUBLISHED = dict.fromkeys(LLAMA, "</s>")
EMPTY = dict.fromkeys(LLAMA, "")


def as_added(tokens: dict[str, str], **extra: str) -> dict[str, Any]:
    """Return tokens as the dicts that some versions of transformers wrote."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {key: {"content": token} | flags | extra for key, token in tokens.items()}


def train_pieces() -> bytes:
    """Train a BPE model like LLaMA's: <unk> 0, <s> 1, </s> 2, bytes, split digits, exact text."""
    problems = load_problems(MINI_MODEL.parent / "train.jsonl")[:300]
    written = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{one.question} {one.solution}" for one in problems),
        model_writer=written, vocab_size=N_PIECES, model_type="bpe", byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1,
        minloglevel=2,
    )  # fmt: skip
    return written.getvalue()


def write_model(folder: Path, rows: int = N_PIECES, **settings: Any) -> Path:
    """Save a random LLaMA with ``rows`` embeddings and LLaMA's token ids in its config."""
    config = LlamaConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2,
        **settings,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_slow(
    folder: Path,
    pieces: bytes,
    settings: dict[str, Any] | None,
    tokens_map: dict[str, Any] | None = None,
    added: dict[str, int] | None = None,
) -> Path:
    """Write a tokenizer that has only tokenizer.model and the given JSON files."""
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(pieces)
    write(folder, "tokenizer_config.json", settings)
    write(folder, "special_tokens_map.json", tokens_map)
    write(folder, "added_tokens.json", added)
    return folder


def write_fast(folder: Path, pieces: bytes, settings: dict[str, Any], template: str) -> Path:
    """Add a tokenizer.json as transformers 4 wrote it, which formats text as ``template``."""
    write_slow(folder, pieces, settings)
    parts = SentencePieceExtractor(str(folder / "tokenizer.model")).extract(models.BPE)
    model = models.BPE(
        vocab=parts["vocab"], merges=parts["merges"], unk_token="<unk>", fuse_unk=True,
        byte_fallback=True,
    )  # fmt: skip
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in LLAMA.values()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_published(folder: Path, pieces: bytes) -> Path:
    """Write the layout of the published 7B and 13B models: </s> for everything, then [PAD]."""
    write_model(folder, N_PIECES + 1, pad_token_id=0)
    tokens = as_added(PUBLISHED)
    return write_slow(
        folder,
        pieces,
        SLOW | as_added(PUBLISHED, __type="AddedToken"),
        tokens | {"pad_token": "[PAD]"},
        {"[PAD]": N_PIECES},
    )


def write(folder: Path, name: str, content: dict[str, Any] | None) -> None:
    """Write a JSON file unless ``content`` is None."""
    if content is not None:
        (folder / name).write_text(json.dumps(content))


def change(folder: Path, name: str, **settings: Any) -> None:
    """Set keys of a JSON file."""
    path = folder / name
    write(folder, name, json.loads(path.read_text()) | settings)


def copy_model(source: Path, target: Path) -> Path:
    """Copy a checkpoint, to change the copy."""
    return Path(shutil.copytree(source, target))
