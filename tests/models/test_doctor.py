"""The report of --doctor; each fault of a broken copy is found, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from screl.core.io import UserError
from screl.models import doctor
from screl.models.doctor import examine
from screl.models.prompts import set_trained_template
from screl.models.tokenizer import Example, load_tokenizer, tokenize_example
from tests.conftest import MINI_MODEL
from tests.llama_layouts import (
    LLAMA,
    N_PIECES,
    SLOW,
    change,
    copy_model,
    train_pieces,
    write_fast,
    write_model,
    write_published,
    write_slow,
)

CLASS_ONLY = {"tokenizer_class": "LlamaTokenizer"}


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return train_pieces()


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return copy_model(tiny_model, tmp_path / "copy")


def only_mismatch(folder: Path) -> str:
    text, [line] = examine(str(folder))
    assert text.endswith(f"\nMISMATCH  {line}")
    assert "\n" not in line
    return line


def notes_of(folder: Path) -> str:
    """Return the notes on a model without a mismatch."""
    text, wrong = examine(str(folder))
    assert wrong == []
    return "\n".join(line for line in text.split("\n") if line.startswith("note"))


def test_healthy_models_have_no_mismatch(tiny_model: Path) -> None:
    assert notes_of(MINI_MODEL) == ""
    assert "512 positions are fewer than 512 + 256" in notes_of(tiny_model)


def test_the_report_shows_what_the_model_is_fed() -> None:
    text, _ = examine(str(MINI_MODEL))
    tokenizer = AutoTokenizer.from_pretrained(MINI_MODEL)
    row = tokenize_example(tokenizer, doctor.PROBLEM)
    lines = text.split("\n")
    assert lines[0] == str(MINI_MODEL)
    assert lines[-1] == "no mismatch"
    values = {line[:14].strip(): line[14:] for line in lines[1:-1]}
    assert values["training row"] == f"{len(row)} tokens, {row.n_targets} of them with loss"
    assert values["prompt"] == f"{row.n_prompt} tokens"
    assert values["loss"].endswith(" to 2 '</s>'")
    assert values["BOS"] == "1 '<s>', by the tokenizer's own post-processor"
    assert values["EOS"] == "2 '</s>' end a completion"
    assert values["pad"] == "0 '<pad>', masked by position"
    assert values["chat template"] == "none; train.py saves the Alpaca prompt that it trains on"
    assert values["vocabulary"] == "768 ids, 768 rows of embeddings"
    assert values["positions"] == "1,024"
    assert values["weights"] == "F32, 787,584 values in 1 file; embeddings tied"
    first = [line[14:] for line in lines if line.startswith("  first 5")]
    last = [line[14:] for line in lines if line.startswith("  last 5")]
    assert first[0] == first[1]
    assert first[0].startswith("1 '<s>', ")
    assert last[0].endswith(", 2 '</s>'")
    assert last[1].endswith("'### Response:'")


def test_the_report_says_with_what_chat_servers_prompt(copy: Path) -> None:
    def reported() -> str:
        return next(line for line in examine(str(copy))[0].split("\n") if line.startswith("chat"))

    (copy / "chat_template.jinja").write_text("{{ messages[0].content }}<|assistant|>")
    assert "its own, with which chat servers prompt; train.py keeps" in reported()
    tokenizer = load_tokenizer(str(copy))
    set_trained_template(tokenizer)
    tokenizer.save_pretrained(copy)
    assert reported() == "chat template the Alpaca prompt, as trained"


def test_the_report_says_what_training_said(copy: Path) -> None:
    assert "\ntraining      tried\n" in examine(str(copy), "tried")[0]
    text, wrong = examine(str(copy), UserError("not this one"))
    assert wrong == ["not this one"]
    assert text.endswith("\nMISMATCH  not this one")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (SLOW | LLAMA, "add_bos_token in tokenizer_config.json"),
        (CLASS_ONLY | LLAMA, "the default of LLaMA tokenizers"),
    ],
)
def test_the_report_gives_the_source_of_the_bos(
    tmp_path: Path, pieces: bytes, settings: dict[str, str], reason: str
) -> None:
    text, wrong = examine(str(write_slow(write_model(tmp_path / "m"), pieces, settings)))
    assert wrong == []
    assert any(line.startswith("BOS           1 '<s>', ") and reason in line
               for line in text.split("\n"))  # fmt: skip


def broken_example(change_row: Callable[[list[int]], list[int]]) -> Callable[..., Example]:
    """Return tokenize_example with the ids of its row changed."""

    def tokenize(*arguments: object) -> Example:
        row = tokenize_example(*arguments)  # type: ignore[arg-type]
        ids = change_row(row.input_ids.tolist())
        return Example(np.array(ids, dtype=np.int32), row.n_prompt)

    return tokenize


def test_a_row_that_begins_differently_from_the_prompt_is_found(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "tokenize_example", broken_example(lambda ids: [2, *ids[1:]]))
    line = only_mismatch(tiny_model)
    assert line.startswith("a training row begins 2 '</s>', 7")
    assert ", an inference prompt 1 '<s>', 7" in line


def test_a_row_without_eos_is_found(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "tokenize_example", broken_example(lambda ids: ids[:-1]))
    assert "does not end with EOS" in only_mismatch(tiny_model)


def test_a_llama_prompt_without_bos_is_found(tmp_path: Path, pieces: bytes) -> None:
    settings = SLOW | LLAMA | {"add_bos_token": False}
    line = only_mismatch(write_slow(write_model(tmp_path / "m"), pieces, settings))
    assert line.startswith("prompts begin without the BOS '<s>'; unless")
    assert line.endswith('set "add_bos_token": true in tokenizer_config.json')


def test_a_missing_bos_of_another_class_is_found_only_if_requested(
    tmp_path: Path, pieces: bytes
) -> None:
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | LLAMA
    write_fast(write_model(tmp_path / "m"), pieces, settings, "$A")
    assert examine(str(tmp_path / "m"))[1] == []
    change(tmp_path / "m", "tokenizer_config.json", add_bos_token=True)
    assert only_mismatch(tmp_path / "m").endswith("fix the post_processor of tokenizer.json")


def test_a_doubled_bos_is_found(tmp_path: Path, pieces: bytes) -> None:
    write_fast(write_model(tmp_path / "m"), pieces, CLASS_ONLY | LLAMA, "<s> <s> $A")
    assert "begin with BOS 2 times" in only_mismatch(tmp_path / "m")


def test_a_prompt_that_begins_with_another_token_is_found(tmp_path: Path, pieces: bytes) -> None:
    settings = CLASS_ONLY | LLAMA | {"bos_token": "</s>"}
    write_fast(write_model(tmp_path / "m"), pieces, settings, "<s> $A")
    change(tmp_path / "m", "config.json", bos_token_id=2)
    change(tmp_path / "m", "generation_config.json", bos_token_id=2)
    assert only_mismatch(tmp_path / "m").startswith("prompts begin with 1 '<s>', which is not the")


@pytest.mark.parametrize("kind", ["bos", "eos", "pad"])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_ids_that_differ_are_found(copy: Path, kind: str, file: str) -> None:
    change(copy, file, **{f"{kind}_token_id": 7})
    own = {"bos": 1, "eos": 2, "pad": 0}[kind]
    line = only_mismatch(copy)
    assert line.startswith(f"{kind}_token_id differs: the tokenizer [{own}], ")
    assert f"{file} [7]" in line
    assert line.endswith(f"for other programs set {own} in both files")


def test_the_two_files_are_compared_if_the_tokenizer_has_no_id(copy: Path) -> None:
    change(copy, "tokenizer_config.json", pad_token=None)
    assert examine(str(copy))[1] == []
    change(copy, "generation_config.json", pad_token_id=2)
    assert only_mismatch(copy).endswith("make both files agree")


def test_several_eos_are_no_mismatch_if_the_tokenizers_is_among_them(copy: Path) -> None:
    change(copy, "generation_config.json", eos_token_id=[7, 2])
    text, wrong = examine(str(copy))
    assert wrong == []
    assert "EOS           2 '</s>', 7 " in text


def test_an_eos_beyond_the_vocabulary_is_found(copy: Path) -> None:
    change(copy, "generation_config.json", eos_token_id=[2, 768])
    assert "EOS 768 'None' is beyond the 768 rows" in only_mismatch(copy)


def test_too_few_positions_are_found(copy: Path) -> None:
    change(copy, "config.json", max_position_embeddings=256)
    assert "256 positions, but training rows have up to 512 tokens" in only_mismatch(copy)


def test_bad_weights_are_found(copy: Path) -> None:
    path = copy / "model.safetensors"
    weights = load_file(path)
    save_file(weights | {"extra": torch.zeros(1)}, path, metadata={"format": "pt"})
    assert "1 weight is not of this model" in only_mismatch(copy)
    path.write_bytes(path.read_bytes()[:5000])
    assert "damaged or missing" in only_mismatch(copy)


def test_bin_files_are_not_read(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    text, wrong = examine(str(copy))
    assert wrong == []
    assert "no readable safetensors here; embeddings not tied" in text


def test_the_published_layout_is_recognized_by_its_files(tmp_path: Path, pieces: bytes) -> None:
    folder = write_published(tmp_path / "any name", pieces)
    text, wrong = examine(str(folder))
    assert "BOS           2 '</s>', by add_bos_token in tokenizer_config.json" in text
    assert "note      the BOS is the EOS '</s>', as in the published 7B and 13B" in text
    assert f"note      {N_PIECES + 1} rows of embeddings are not a multiple of 64" in text
    assert [line.split(":")[0] for line in wrong] == [
        "bos_token_id differs",
        "pad_token_id differs",
    ]
    for file in ("config.json", "generation_config.json"):
        change(folder, file, bos_token_id=2, pad_token_id=N_PIECES)
    assert examine(str(folder))[1] == []


def test_pad_that_is_eos_is_noted(tmp_path: Path, pieces: bytes) -> None:
    settings = SLOW | LLAMA | {"pad_token": "</s>"}
    notes = notes_of(write_slow(write_model(tmp_path / "m"), pieces, settings))
    assert notes.startswith("note      pad is EOS; harmless here")
    assert "the BOS is the EOS" not in notes


def test_a_vocabulary_that_will_grow_is_noted(tmp_path: Path, pieces: bytes) -> None:
    folder = write_slow(
        write_model(tmp_path / "m"), pieces, SLOW | LLAMA, None, {"[NEW]": N_PIECES}
    )
    assert "grows these from 448 to 512 rows, a multiple of 64" in notes_of(folder)


@pytest.mark.parametrize(
    ("token", "note"),
    [
        (":Tom", "the end of the prompt and the beginning of the response would merge"),
        ("1234", "numbers are not split into digits: 1234 is '1234'"),
    ],
)
def test_tokens_across_the_boundary_and_of_several_digits_are_noted(
    tmp_path: Path, pieces: bytes, token: str, note: str
) -> None:
    model = write_model(tmp_path / "m", 512)
    assert notes_of(write_slow(model, pieces, SLOW | LLAMA)).count("note ") == 1  # pad is EOS
    write_slow(model, pieces, SLOW | LLAMA, None, {token: N_PIECES})
    assert note in notes_of(model)


def test_sampling_defaults_are_noted(copy: Path) -> None:
    change(copy, "generation_config.json", do_sample=True, temperature=0.6, top_p=0.9)
    notes = notes_of(copy)
    assert "generation_config.json sets do_sample=True, temperature=0.6, top_p=0.9; other" in notes
