"""What of a model's files disagrees, and what is odd: the findings of ``train.py --doctor``.

``train.py --doctor MODEL``: what a model is fed and generates, and what of its files disagrees.

No weights are loaded: their names, shapes and dtypes come from the headers of the safetensors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from screl.core.alpaca import build_prompt
from screl.core.io import UserError
from screl.core.problems import Problem
from screl.models.folder import check_weights
from screl.models.loading import Model, empty_model
from screl.models.tokenizer import (
    Tokenizer,
    eos_ids,
    is_llama,
    load_generation_config,
    load_tokenizer,
    pad_id,
    prompt_ids,
    tokenize_example,
    tokenizer_settings,
    vocabulary_size,
)
from screl.models.weight_headers import Headers, compare_weights, read_headers

EXAMPLE = Problem(
    "example",
    "Tom buys 3 boxes of 1234 pens and gives 20 pens away. How many pens are left?",
    "Tom buys 3*1234=<<3*1234=3702>>3702 pens.\n3702-20=<<3702-20=3682>>3682 are left.\n#### 3682",
    1,
)
MAX_LENGTH, MAX_NEW_TOKENS = 512, 256  # the paper's, A.1
SAMPLING = (
    "do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty",
    "no_repeat_ngram_size",
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """Everything that is looked at. ``row`` and ``prompt`` are token ids of ``EXAMPLE``."""

    name: str
    tokenizer: Tokenizer
    settings: dict[str, Any]
    model: Model  # on the meta device
    generation: GenerationConfig
    row: list[int]
    n_prompt: int  # tokens of the row without loss
    prompt: list[int]
    prefix: list[int]  # what the tokenizer puts in front of the prompt's text
    weights: Headers | UserError | None  # None: no safetensors, or on the hub

    @property
    def n_rows(self) -> int:
        """Rows of the embeddings."""
        rows: int = self.model.get_input_embeddings().num_embeddings
        return rows

    @property
    def ends(self) -> list[int]:
        """Ids that end a completion."""
        return eos_ids(self.generation, self.tokenizer)


def show_tokens(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Ids with the beginnings of their tokens, as ``1 '<s>', 2 '</s>'``."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return ", ".join(f"{one} {str(token)[:24]!r}" for one, token in zip(ids, tokens, strict=True))


def positions(found: Findings) -> str:
    """The longest sequence, or that there is no limit."""
    longest = getattr(found.model.config, "max_position_embeddings", None)
    return "not limited by config.json" if longest is None else f"{longest:,}"


def mismatches(found: Findings) -> Iterator[str]:
    """What should be mended before training or sampling."""
    yield from row_mismatches(found)
    yield from bos_mismatches(found)
    for kind in ("bos", "eos", "pad"):
        yield from id_mismatches(found, kind)
    if beyond := [one for one in found.ends if one >= found.n_rows]:
        yield (
            f"EOS {show_tokens(found.tokenizer, beyond)} is beyond the {found.n_rows:,} rows of "
            "embeddings and is never generated; mend eos_token_id in generation_config.json, or "
            "eos_token in tokenizer_config.json"
        )
    if getattr(found.model.config, "max_position_embeddings", MAX_LENGTH) < MAX_LENGTH:
        yield (
            f"the model has {positions(found)} positions, training rows up to {MAX_LENGTH} tokens; "
            "train with a smaller --max_length"
        )
    if isinstance(found.weights, UserError):
        yield str(found.weights)
    elif found.weights:
        yield from compare_weights(found.weights, found.model)


def row_mismatches(found: Findings) -> Iterator[str]:
    """Of the training row with the prompt and with EOS."""
    if found.row[: found.n_prompt] != found.prompt:
        yield (
            f"a training row begins {show_tokens(found.tokenizer, found.row[:5])}, "
            f"an inference prompt {show_tokens(found.tokenizer, found.prompt[:5])}; "
            "both must come from prompt_ids"
        )
    if found.row[-1] != found.tokenizer.eos_token_id:
        yield "a training row does not end with EOS, so the model would not learn to stop; add it"


def bos_mismatches(found: Findings) -> Iterator[str]:
    """Of the prompt's beginning with the tokenizer's BOS."""
    bos, prefix = found.tokenizer.bos_token_id, found.prefix
    mend = "mend the post_processor of tokenizer.json"
    if bos is not None and not prefix and expects_bos(found):
        llama = 'set "add_bos_token": true in tokenizer_config.json'
        yield (
            f"prompts begin without the BOS {found.tokenizer.bos_token!r}; unless the model was "
            f"trained so, {llama if is_llama(found.settings) else mend}"
        )
    if prefix and prefix[0] != bos:
        yield (
            f"prompts begin with {show_tokens(found.tokenizer, prefix[:1])}, "
            f"which is not the bos_token {found.tokenizer.bos_token!r}; {mend} or bos_token in "
            "tokenizer_config.json"
        )
    if bos is not None and prefix.count(bos) > 1:
        yield f"prompts begin with BOS {prefix.count(bos)} times; {mend}"


def expects_bos(found: Findings) -> bool:
    """Whether its files or its kind let one expect a BOS."""
    return is_llama(found.settings) or found.settings.get("add_bos_token") is True


def id_mismatches(found: Findings, kind: str) -> Iterator[str]:
    """Of an id in config.json, in generation_config.json and of the tokenizer."""
    own = getattr(found.tokenizer, f"{kind}_token_id")
    said = {"the tokenizer": {own} - {None}}
    files = {"config.json": found.model.config, "generation_config.json": found.generation}
    for file, config in files.items():
        ids = getattr(config, f"{kind}_token_id", None)
        said[file] = (set(ids) if isinstance(ids, list) else {ids}) - {None}
    said = {where: ids for where, ids in said.items() if ids}
    if said and not set.intersection(*said.values()):
        listed = ", ".join(f"{where} {sorted(ids)}" for where, ids in said.items())
        remedy = "make both files agree" if own is None else f"set {own} in both files"
        yield (
            f"{kind}_token_id differs: {listed}; this project goes by the tokenizer, for other "
            f"programs {remedy}"
        )


def notes(found: Findings) -> Iterator[str]:
    """What is odd and harmless here, or only worth knowing."""
    tokenizer = found.tokenizer
    try:
        check_weights(found.name)
    except UserError as error:
        yield f"only a run can be planned: {error}"
    if found.prefix and tokenizer.bos_token_id == tokenizer.eos_token_id:
        yield (
            f"the BOS is the EOS {tokenizer.bos_token!r}, as in the published 7B and 13B "
            "checkpoints: its files say so, and every prompt begins with it"
        )
    if pad_id(tokenizer) == tokenizer.eos_token_id:
        yield "pad is EOS; harmless here: padding is masked by position, and EOS carries loss"
    yield from vocabulary_notes(found)
    yield from text_notes(found)
    given = {key: getattr(found.generation, key, None) for key in SAMPLING}
    if given := {key: value for key, value in given.items() if value is not None}:
        listed = ", ".join(f"{key}={value}" for key, value in given.items())
        yield (
            f"generation_config.json sets {listed}; other programs apply that silently, this "
            "project sets all explicitly"
        )
    longest = getattr(found.model.config, "max_position_embeddings", None)
    if longest is not None and MAX_LENGTH <= longest < MAX_LENGTH + MAX_NEW_TOKENS:
        yield (
            f"{longest} positions are fewer than {MAX_LENGTH} + {MAX_NEW_TOKENS}: completions of "
            "long prompts are cut short"
        )


def vocabulary_notes(found: Findings) -> Iterator[str]:
    """On the size of the embeddings."""
    if (needed := vocabulary_size(found.tokenizer)) > found.n_rows:
        yield (
            f"the tokenizer has ids beyond the embeddings: training grows these from "
            f"{found.n_rows:,} to {-(-needed // 64) * 64:,} rows, a multiple of 64"
        )
    elif found.n_rows % 64:
        yield f"{found.n_rows:,} rows of embeddings are no multiple of 64: slower on a GPU"


def text_notes(found: Findings) -> Iterator[str]:
    """On how text becomes tokens."""
    joint = prompt_ids(found.tokenizer, build_prompt(EXAMPLE.question) + EXAMPLE.solution)
    if joint[: len(found.prompt)] != found.prompt:
        yield (
            "the end of the prompt and the beginning of the response would merge into one token; "
            "they are tokenized apart"
        )
    tokens = found.tokenizer.tokenize("1234")
    if any(sum(map(str.isdigit, token)) > 1 for token in tokens):
        yield f"numbers are not split into digits: 1234 is {' '.join(map(repr, tokens))}"


def examine(name: str) -> tuple[str, list[str]]:
    """The report on a model as text, and its mismatches, one line each with the remedy.

    UserError if it has no config or no usable tokenizer.
    """
    found = read_findings(name)
    wrong = list(mismatches(found))
    lines = [name, *report_lines(found)]
    lines += [f"note      {line}" for line in notes(found)]
    lines += [f"MISMATCH  {line}" for line in wrong]
    return "\n".join(lines if wrong else [*lines, "no mismatch"]), wrong


def read_findings(name: str) -> Findings:
    """Read a model's files, except its weights, and tokenize the example."""
    tokenizer = load_tokenizer(name)
    example = tokenize_example(tokenizer, EXAMPLE)
    text = build_prompt(EXAMPLE.question)
    prompt = prompt_ids(tokenizer, text)
    n_text = len(tokenizer(text, add_special_tokens=False).input_ids)
    try:
        weights: Headers | UserError | None = read_headers(Path(name))
    except UserError as error:
        weights = error
    return Findings(
        name,
        tokenizer,
        tokenizer_settings(name),
        empty_model(name, "eager"),
        load_generation_config(name),
        example.input_ids.tolist(),
        example.n_prompt,
        prompt,
        prompt[: len(prompt) - n_text],
        weights,
    )


def report_lines(found: Findings) -> Iterator[str]:
    """The aligned lines of what is fed and generated."""
    row, n_prompt, tokenizer = found.row, found.n_prompt, found.tokenizer
    table = [
        ("training row", f"{len(row)} tokens, {len(row) - n_prompt} of them with loss"),
        ("  first 5", show_tokens(tokenizer, row[:5])),
        ("  last 5", show_tokens(tokenizer, row[-5:])),
        ("  loss", f"from {show_tokens(tokenizer, row[n_prompt : n_prompt + 1])} "
                   f"to {show_tokens(tokenizer, row[-1:])}"),
        ("prompt", f"{len(found.prompt)} tokens"),
        ("  first 5", show_tokens(tokenizer, found.prompt[:5])),
        ("  last 5", show_tokens(tokenizer, found.prompt[-5:])),
        ("BOS", f"{show_tokens(tokenizer, found.prefix) or 'none'}, {why_bos(found)}"),
        ("EOS", f"{show_tokens(tokenizer, found.ends)} end a completion"),
        ("pad", f"{show_tokens(tokenizer, [pad_id(tokenizer)])}, masked by position"),
        ("vocabulary", f"{vocabulary_size(tokenizer):,} ids, {found.n_rows:,} rows of embeddings"),
        ("positions", positions(found)),
        ("weights", describe_weights(found)),
    ]  # fmt: skip
    return (f"{label:<14}{value}" for label, value in table)


def why_bos(found: Findings) -> str:
    """What decides on the BOS."""
    if found.settings.get("add_bos_token") is not None and is_llama(found.settings):
        return "by add_bos_token in tokenizer_config.json"
    if getattr(found.tokenizer, "add_bos_token", False):
        return "as LLaMA tokenizers do unless told not to"
    return "by the tokenizer's own post-processor"


def describe_weights(found: Findings) -> str:
    """Dtypes, number and tying of the weights."""
    tied = "tied" if found.model.all_tied_weights_keys else "not tied"
    if not isinstance(found.weights, Headers):
        return f"no safetensors here to look into; embeddings {tied}"
    dtypes = ", ".join(dtype for dtype, _ in found.weights.dtypes.most_common())
    files = f"{found.weights.n_files} file{'s' * (found.weights.n_files > 1)}"
    return f"{dtypes}, {found.weights.n_values:,} values in {files}; embeddings {tied}"
