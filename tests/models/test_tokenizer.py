"""Prompts begin as the tokenizer's own files say, whichever version of transformers wrote them."""

from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from screl.core.io import UserError
from screl.core.problems import Problem, build_prompt
from screl.models.tokenizer import (
    eos_ids,
    load_tokenizer,
    pad_id,
    prompt_ids,
    special_tokens_in,
    tokenize_example,
    vocabulary_size,
)
from tests.conftest import MINI_MODEL
from tests.llama_layouts import (
    EMPTY,
    LLAMA,
    N_PIECES,
    PUBLISHED,
    SLOW,
    as_added,
    train_pieces,
    write_fast,
    write_model,
    write_published,
    write_slow,
)

PROBLEM = Problem(0, "Jo  has 12 pens\nand ½ of $3. How many?", "2+3=<<2+3=5>>5\n#### 5", 1)
PROMPT = build_prompt(PROBLEM.question)
NO_KEY = {key: value for key, value in SLOW.items() if key != "add_bos_token"}
DECODER = {
    "added_tokens_decoder": {
        str(i): {"content": token, "special": True}
        for i, token in enumerate(("<unk>", "<s>", "</s>"))
    }
}  # since 4.34, which ignores the map
OLD_CLASS = {"tokenizer_class": "LLaMATokenizer"}


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return train_pieces()


@pytest.fixture(scope="module")
def plain(pieces: bytes) -> list[int]:
    """Return the prompt's tokens by sentencepiece itself, the reference for all."""
    return sentencepiece.SentencePieceProcessor(model_proto=pieces).encode(PROMPT)


@pytest.mark.parametrize(
    ("settings", "tokens_map", "bos"),
    [
        pytest.param(SLOW | PUBLISHED, PUBLISHED, [2], id="published, as strings"),
        pytest.param(SLOW | PUBLISHED, as_added(PUBLISHED), [2], id="published, as dicts"),
        pytest.param(SLOW | LLAMA, PUBLISHED, [2], id="published, the base's tokens in the config"),
        pytest.param(SLOW | EMPTY, PUBLISHED, [2], id="published, the base's were empty"),
        pytest.param(SLOW | LLAMA, LLAMA, [1], id="LLaMA 1 and 2"),
        pytest.param(
            SLOW | as_added(LLAMA, __type="AddedToken"), as_added(LLAMA), [1], id="as dicts"
        ),
        pytest.param(SLOW | LLAMA | {"add_eos_token": True}, None, [1], id="EOS appended"),
        pytest.param(SLOW | LLAMA | {"add_bos_token": False}, None, [], id="no BOS wanted"),
        pytest.param(SLOW | LLAMA | DECODER, EMPTY, [1], id="a map that is not read"),
        pytest.param(NO_KEY | LLAMA, LLAMA, [1], id="nothing said of BOS"),
        pytest.param(OLD_CLASS | LLAMA, None, [1], id="the first spelling of the class"),
        pytest.param(LLAMA, None, [1], id="no class"),
        pytest.param(None, None, [1], id="no tokenizer_config.json"),
    ],
)
def test_prompts_begin_as_the_files_say_and_continue_as_in_sentencepiece(
    tmp_path: Path, pieces: bytes, plain: list[int], settings: Any, tokens_map: Any, bos: list[int]
) -> None:
    write_slow(write_model(tmp_path / "m"), pieces, settings, tokens_map)
    tokenizer = load_tokenizer(str(tmp_path / "m"))
    assert prompt_ids(tokenizer, PROMPT) == bos + plain
    row = tokenize_example(tokenizer, PROBLEM).input_ids.tolist()
    assert row[: len(bos + plain)] == bos + plain
    assert row[-1] == 2
    assert row.count(2) == 1 + bos.count(2)
    assert tokenizer.decode(row, skip_special_tokens=True) == PROMPT + PROBLEM.solution


def test_transformers_alone_omits_bos_or_splits_differently(
    tmp_path: Path, pieces: bytes, plain: list[int]
) -> None:
    """If this fails, transformers is fixed, and screl/models/tokenizer.py can be shorter."""
    write_slow(write_model(tmp_path / "m"), pieces, NO_KEY | LLAMA)
    assert AutoTokenizer.from_pretrained(tmp_path / "m")(PROMPT).input_ids == plain
    write_slow(tmp_path / "m", pieces, OLD_CLASS | LLAMA)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "m")(PROMPT).input_ids
    assert tokens[-len(plain) :] != plain


@pytest.mark.parametrize(
    ("settings", "template", "bos"),
    [
        pytest.param(SLOW | LLAMA, "<s> $A", [1], id="LLaMA 1 and 2"),
        pytest.param({"tokenizer_class": "LlamaTokenizer"} | LLAMA, "<s> $A", [1], id="no key"),
        pytest.param({"tokenizer_class": "LlamaTokenizer"} | LLAMA, "$A", [], id="no key, no BOS"),
        pytest.param({"tokenizer_class": "LlamaTokenizer"} | LLAMA, "<s> $A </s>", [1], id="EOS"),
        pytest.param(SLOW | LLAMA, "$A", [1], id="the key says BOS"),
        pytest.param(SLOW | LLAMA | {"add_bos_token": False}, "<s> $A", [], id="the key says none"),
        pytest.param(SLOW | PUBLISHED, "<s> $A", [2], id="the template has the base's BOS"),
        pytest.param(
            {"tokenizer_class": "PreTrainedTokenizerFast"} | LLAMA, "<s> $A", [1], id="other class"
        ),
    ],
)
def test_add_bos_token_overrides_a_tokenizer_json(
    tmp_path: Path, pieces: bytes, plain: list[int], settings: Any, template: str, bos: list[int]
) -> None:
    write_fast(write_model(tmp_path / "m"), pieces, settings, template)
    assert prompt_ids(load_tokenizer(str(tmp_path / "m")), PROMPT) == bos + plain


def test_a_template_adds_its_bos_once(tmp_path: Path) -> None:
    """As in LLaMA 3: byte-level, no tokenizer.model, the BOS only from the post-processor."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = ["<|begin_of_text|>", "<|end_of_text|>"]
    model = models.BPE({token: i for i, token in enumerate([*alphabet, *ends])}, [])
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{ends[0]} $A", special_tokens=[(ends[0], len(alphabet))]
            ),
        ]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=ends[0], eos_token=ends[1]
    ).save_pretrained(write_model(tmp_path / "m"))
    ids = prompt_ids(load_tokenizer(str(tmp_path / "m")), PROMPT)
    assert ids[0] == len(alphabet)
    assert ids.count(len(alphabet)) == 1


def test_the_published_pad_token_is_kept_where_it_has_an_embedding(
    tmp_path: Path, pieces: bytes
) -> None:
    tokenizer = load_tokenizer(str(write_published(tmp_path / "m", pieces)))
    assert (tokenizer.pad_token, pad_id(tokenizer)) == ("[PAD]", N_PIECES)
    assert prompt_ids(tokenizer, PROMPT)[0] == 2


def test_a_pad_token_without_an_embedding_is_not_added(tmp_path: Path, pieces: bytes) -> None:
    folder = write_slow(
        write_model(tmp_path / "m"), pieces, SLOW | PUBLISHED, PUBLISHED | {"pad_token": "[PAD]"}
    )
    assert AutoTokenizer.from_pretrained(folder).pad_token_id == N_PIECES  # transformers adds it
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.pad_token, pad_id(tokenizer)) == (None, 2)
    assert vocabulary_size(tokenizer) == N_PIECES
    assert max(prompt_ids(tokenizer, "[PAD]")) < N_PIECES


def test_llama_without_a_pad_token_needs_none(tmp_path: Path, pieces: bytes) -> None:
    folder = write_slow(write_model(tmp_path / "m"), pieces, SLOW | LLAMA, LLAMA)
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.pad_token, pad_id(tokenizer)) == (None, 2)
    assert vocabulary_size(tokenizer) == N_PIECES


def test_every_configured_eos_ends_a_completion(tmp_path: Path, pieces: bytes) -> None:
    folder = write_slow(write_model(tmp_path / "m"), pieces, SLOW | LLAMA)
    tokenizer = load_tokenizer(str(folder))
    assert eos_ids(GenerationConfig(eos_token_id=[7, 9]), tokenizer) == [2, 7, 9]
    assert eos_ids(GenerationConfig(eos_token_id=7), tokenizer) == [2, 7]
    assert eos_ids(GenerationConfig(), tokenizer) == [2]


def test_a_tokenizer_without_eos_is_refused(tmp_path: Path, pieces: bytes) -> None:
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_fast(write_model(tmp_path / "m"), pieces, settings, "$A")
    with pytest.raises(UserError, match="no eos_token; set one in tokenizer_config"):
        load_tokenizer(str(tmp_path / "m"))


@pytest.mark.parametrize("kind", ["bos_token", "eos_token"])
def test_an_empty_token_is_refused_with_the_fix(tmp_path: Path, pieces: bytes, kind: str) -> None:
    write_slow(write_model(tmp_path / "m"), pieces, SLOW | LLAMA | {kind: ""})
    with pytest.raises(UserError, match=f'empty {kind}; .* "eos_token": "</s>"'):
        load_tokenizer(str(tmp_path / "m"))


def test_the_fix_for_the_first_conversions_works(
    tmp_path: Path, pieces: bytes, plain: list[int]
) -> None:
    folder = write_slow(write_model(tmp_path / "m"), pieces, OLD_CLASS | EMPTY, EMPTY)
    with pytest.raises(UserError, match="delete special_tokens_map"):
        load_tokenizer(str(folder))
    write_slow(folder, pieces, OLD_CLASS | LLAMA)
    (folder / "special_tokens_map.json").unlink()
    assert prompt_ids(load_tokenizer(str(folder)), PROMPT) == [1, *plain]


@pytest.mark.parametrize("settings", [SLOW | PUBLISHED, NO_KEY | LLAMA, OLD_CLASS | LLAMA])
def test_a_saved_tokenizer_begins_prompts_the_same_here_and_elsewhere(
    tmp_path: Path, pieces: bytes, settings: dict[str, Any]
) -> None:
    tokenizer = load_tokenizer(str(write_slow(write_model(tmp_path / "m"), pieces, settings)))
    tokenizer.save_pretrained(write_model(tmp_path / "saved"))
    expected = prompt_ids(tokenizer, PROMPT)
    assert prompt_ids(load_tokenizer(str(tmp_path / "saved")), PROMPT) == expected
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")(PROMPT).input_ids == expected


SPECIAL = Problem(0, "Is </s> or <s> a word?", "No </s>, it is\n#### 5 </s>", 1)


def test_the_text_of_special_tokens_is_text() -> None:
    tokenizer = load_tokenizer(str(MINI_MODEL))
    example = tokenize_example(tokenizer, SPECIAL)
    ids = example.input_ids.tolist()
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert [i for i, token in enumerate(ids) if token in (bos, eos)] == [0, len(ids) - 1]
    assert ids[: example.n_prompt] == prompt_ids(tokenizer, build_prompt(SPECIAL.question))
    text = SPECIAL.question + SPECIAL.solution
    assert special_tokens_in(tokenizer, text, ids) == []
    # a tokenizer that ignores split_special_tokens
    joined = tokenizer(build_prompt(SPECIAL.question) + SPECIAL.solution).input_ids
    assert special_tokens_in(tokenizer, text, [*joined, eos]) == ["<s>", "</s>"]
