"""Check a model's files against each other, and show its inputs (``train.py --doctor MODEL``).

No weights are loaded: their names, shapes and dtypes come from the safetensors headers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from screl.core.io import UserError
from screl.core.problems import Problem, build_prompt
from screl.core.prompt_choice import PromptChoice
from screl.models.chat import ChatPrompt
from screl.models.folder import check_weights
from screl.models.loading import Model, empty_model
from screl.models.prompts import templated_ids
from screl.models.tokenizer import (
    Example,
    Tokenizer,
    describe_example,
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

PROBLEM = Problem(
    "example",
    "Tom buys 3 boxes of 1234 pens and gives 20 pens away. How many pens are left?",
    "Tom buys 3*1234=<<3*1234=3702>>3702 pens.\n3702-20=<<3702-20=3682>>3682 are left.\n#### 3682",
    1,
)
CHAT = PromptChoice("chat")
PAPER_MAX_LENGTH, PAPER_MAX_NEW_TOKENS = 512, 256  # A.1
SAMPLING_KEYS = (
    "do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty",
    "no_repeat_ngram_size",
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """The facts read from a model's files, and the token ids of ``PROBLEM``."""

    name: str
    tokenizer: Tokenizer
    settings: dict[str, Any]  # the tokenizer's
    model: Model  # on the meta device
    generation: GenerationConfig
    example: Example  # PROBLEM as a training row
    prompt: list[int]  # PROBLEM as an inference prompt
    prefix: list[int]  # the tokens that the tokenizer puts before the prompt's text
    weights: Headers | UserError | None  # None without local safetensors

    @property
    def row(self) -> list[int]:
        """The token ids of the training row."""
        ids: list[int] = self.example.input_ids.tolist()
        return ids

    @property
    def n_embeddings(self) -> int:
        """The number of rows of the embedding matrix."""
        rows: int = self.model.get_input_embeddings().num_embeddings
        return rows

    @property
    def max_positions(self) -> int | None:
        """The longest sequence in tokens, None if config.json sets no limit."""
        longest: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return longest

    @property
    def eos(self) -> list[int]:
        """The ids that end a completion."""
        return eos_ids(self.generation, self.tokenizer)

    def show(self, ids: list[int]) -> str:
        """Return ids with their tokens, as in ``1 '<s>', 2 '</s>'``; long tokens are cut."""
        tokens = self.tokenizer.convert_ids_to_tokens(ids)
        return ", ".join(f"{i} {str(token)[:24]!r}" for i, token in zip(ids, tokens, strict=True))


def examine(
    name: str, trial: str | UserError | None = None, choice: PromptChoice = CHAT
) -> tuple[str, list[str]]:
    """Return the report on a model, and its mismatches: one line each, with the fix.

    ``trial`` is what training said when it tried the architecture, or the error that it raised.
    ``choice`` holds the arguments of the model's chat template. Raises UserError if the model has
    no config or no usable tokenizer.
    """
    found = _read_findings(name)
    mismatches = list(_mismatches(found))
    lines = [name, *_report_lines(found)]
    if isinstance(trial, UserError):
        mismatches.append(str(trial))
    elif trial is not None:
        lines.append(f"{'training':<14}{trial}")
    lines += _chat_lines(found, choice)
    lines += [f"note      {line}" for line in _notes(found)]
    lines += [f"MISMATCH  {line}" for line in mismatches] or ["no mismatch"]
    return "\n".join(lines), mismatches


def _read_findings(name: str) -> Findings:
    tokenizer = load_tokenizer(name)
    text = build_prompt(PROBLEM.question)
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
        tokenize_example(tokenizer, PROBLEM),
        prompt,
        prompt[: len(prompt) - n_text],
        weights,
    )


def _report_lines(found: Findings) -> Iterator[str]:
    """Yield aligned lines that show the model's inputs and the tokens that end a completion."""
    row, n_prompt, tokenizer, show = found.row, found.example.n_prompt, found.tokenizer, found.show
    positions, n_ids = found.max_positions, vocabulary_size(tokenizer)
    table = [
        ("training row", f"{len(row)} tokens, {len(row) - n_prompt} of them with loss"),
        ("  first 5", show(row[:5])),
        ("  last 5", show(row[-5:])),
        ("  loss", f"from {show(row[n_prompt : n_prompt + 1])} to {show(row[-1:])}"),
        ("prompt", f"{len(found.prompt)} tokens"),
        ("  first 5", show(found.prompt[:5])),
        ("  last 5", show(found.prompt[-5:])),
        ("BOS", f"{show(found.prefix) or 'none'}, {_bos_source(found)}"),
        ("EOS", f"{show(found.eos)} end a completion"),
        ("pad", f"{show([pad_id(tokenizer)])}, masked by position"),
        ("chat template", _describe_template(found)),
        ("vocabulary", f"{n_ids:,} ids, {found.n_embeddings:,} rows of embeddings"),
        ("positions", "not limited by config.json" if positions is None else f"{positions:,}"),
        ("weights", _describe_weights(found)),
    ]
    return (f"{label:<14}{value}" for label, value in table)


def _bos_source(found: Findings) -> str:
    if found.settings.get("add_bos_token") is not None and is_llama(found.settings):
        return "by add_bos_token in tokenizer_config.json"
    if getattr(found.tokenizer, "add_bos_token", False):
        return "the default of LLaMA tokenizers"
    return "by the tokenizer's own post-processor"


def _describe_template(found: Findings) -> str:
    if templated_ids(found.tokenizer, PROBLEM.question) == found.prompt:
        return "the Alpaca prompt, as trained"
    if found.tokenizer.chat_template:
        return (
            "its own, with which chat servers prompt; train.py keeps it with --prompt chat, and "
            "saves the Alpaca prompt in its place with --prompt alpaca"
        )
    return "none; train.py saves the Alpaca prompt that it trains on"


def _chat_lines(found: Findings, choice: PromptChoice) -> Iterator[str]:
    """Yield the training row of the model's own chat template, token by token."""
    tokenizer = found.tokenizer
    if not tokenizer.chat_template or templated_ids(tokenizer, PROBLEM.question) == found.prompt:
        return
    try:
        prompt = ChatPrompt(tokenizer, choice)
        example = prompt.example(PROBLEM)
    except UserError as error:
        yield f"with --prompt chat: {error}"
        return
    yield f"with {choice}, " + describe_example(
        tokenizer, PROBLEM, example, text=prompt.row_text(PROBLEM)
    )
    if prompt.inserted:
        yield f"note      the template writes {prompt.inserted!r} before an answer without <think>"
    if prompt.end_of_turn not in found.eos:
        yield (
            f"note      the template ends an answer with {found.show([int(example.input_ids[-1])])}"
            ", which is not among the EOS; --prompt chat stops there all the same and writes it to "
            "generation_config.json"
        )


def _describe_weights(found: Findings) -> str:
    tied = "tied" if found.model.all_tied_weights_keys else "not tied"
    if not isinstance(found.weights, Headers):
        return f"no readable safetensors here; embeddings {tied}"
    dtypes = ", ".join(dtype for dtype, _ in found.weights.dtypes.most_common())
    files = f"{found.weights.n_files} file{'s' * (found.weights.n_files > 1)}"
    return f"{dtypes}, {found.weights.n_values:,} values in {files}; embeddings {tied}"


def _mismatches(found: Findings) -> Iterator[str]:
    """Yield the faults to fix before training or sampling."""
    if found.row[: found.example.n_prompt] != found.prompt:
        yield (
            f"a training row begins {found.show(found.row[:5])}, "
            f"an inference prompt {found.show(found.prompt[:5])}; both must come from prompt_ids"
        )
    if found.row[-1] != found.tokenizer.eos_token_id:
        yield "a training row does not end with EOS, so the model would not learn to stop; add it"
    yield from _bos_mismatches(found)
    for kind in ("bos", "eos", "pad"):
        yield from _id_mismatches(found, kind)
    if beyond := [i for i in found.eos if i >= found.n_embeddings]:
        yield (
            f"EOS {found.show(beyond)} is beyond the {found.n_embeddings:,} rows of embeddings and "
            "is never generated; fix eos_token_id in generation_config.json, or eos_token in "
            "tokenizer_config.json"
        )
    if found.max_positions is not None and found.max_positions < PAPER_MAX_LENGTH:
        yield (
            f"the model has {found.max_positions:,} positions, but training rows have up to "
            f"{PAPER_MAX_LENGTH} tokens; train with a smaller --max_length"
        )
    if isinstance(found.weights, UserError):
        yield str(found.weights)
    elif found.weights:
        yield from compare_weights(found.weights, found.model)


def _bos_mismatches(found: Findings) -> Iterator[str]:
    """Yield mismatches between the beginning of a prompt and the tokenizer's BOS."""
    bos, token, prefix = found.tokenizer.bos_token_id, found.tokenizer.bos_token, found.prefix
    expected = is_llama(found.settings) or found.settings.get("add_bos_token") is True
    fix = "fix the post_processor of tokenizer.json"
    if bos is not None and not prefix and expected:
        llama_fix = 'set "add_bos_token": true in tokenizer_config.json'
        yield (
            f"prompts begin without the BOS {token!r}; unless the model was trained so, "
            f"{llama_fix if is_llama(found.settings) else fix}"
        )
    if prefix and prefix[0] != bos:
        yield (
            f"prompts begin with {found.show(prefix[:1])}, which is not the bos_token {token!r}; "
            f"{fix} or bos_token in tokenizer_config.json"
        )
    if bos is not None and prefix.count(bos) > 1:
        yield f"prompts begin with BOS {prefix.count(bos)} times; {fix}"


def _id_mismatches(found: Findings, kind: str) -> Iterator[str]:
    """Yield a mismatch if tokenizer, config.json and generation_config.json differ in a token."""
    own = getattr(found.tokenizer, f"{kind}_token_id")
    ids_in = {"the tokenizer": {own} - {None}}
    files = {"config.json": found.model.config, "generation_config.json": found.generation}
    for file, config in files.items():
        ids = getattr(config, f"{kind}_token_id", None)
        ids_in[file] = (set(ids) if isinstance(ids, list) else {ids}) - {None}
    ids_in = {where: ids for where, ids in ids_in.items() if ids}
    if ids_in and not set.intersection(*ids_in.values()):
        listed = ", ".join(f"{where} {sorted(ids)}" for where, ids in ids_in.items())
        fix = "make both files agree" if own is None else f"set {own} in both files"
        yield (
            f"{kind}_token_id differs: {listed}; this project uses the tokenizer's, for other "
            f"programs {fix}"
        )


def _notes(found: Findings) -> Iterator[str]:
    """Yield facts that are unusual but harmless here, or worth knowing."""
    tokenizer = found.tokenizer
    try:
        check_weights(found.name)
    except UserError as error:
        yield f"a run can be planned but not started: {error}"
    if found.prefix and tokenizer.bos_token_id == tokenizer.eos_token_id:
        yield (
            f"the BOS is the EOS {tokenizer.bos_token!r}, as in the published 7B and 13B "
            "checkpoints: the files say so, and every prompt begins with it"
        )
    if pad_id(tokenizer) == tokenizer.eos_token_id:
        yield "pad is EOS; harmless here: padding is masked by position, and EOS carries loss"
    if (needed := vocabulary_size(tokenizer)) > found.n_embeddings:
        yield (
            "the tokenizer has ids beyond the embeddings: training grows these from "
            f"{found.n_embeddings:,} to {-(-needed // 64) * 64:,} rows, a multiple of 64"
        )
    elif found.n_embeddings % 64:
        yield (
            f"{found.n_embeddings:,} rows of embeddings are not a multiple of 64: slower on a GPU"
        )
    joint = prompt_ids(tokenizer, build_prompt(PROBLEM.question) + PROBLEM.solution)
    if joint[: len(found.prompt)] != found.prompt:
        yield (
            "the end of the prompt and the beginning of the response would merge into one token; "
            "they are tokenized separately"
        )
    digits = tokenizer.tokenize("1234")
    if any(sum(map(str.isdigit, token)) > 1 for token in digits):
        yield f"numbers are not split into digits: 1234 is {' '.join(map(repr, digits))}"
    given = {key: getattr(found.generation, key, None) for key in SAMPLING_KEYS}
    if listed := ", ".join(f"{key}={value}" for key, value in given.items() if value is not None):
        yield (
            f"generation_config.json sets {listed}; other programs apply that silently, this "
            "project sets all of them explicitly"
        )
    longest = found.max_positions
    if longest is not None and 0 <= longest - PAPER_MAX_LENGTH < PAPER_MAX_NEW_TOKENS:
        yield (
            f"{longest} positions are fewer than {PAPER_MAX_LENGTH} + {PAPER_MAX_NEW_TOKENS}: "
            "completions of long prompts are cut short"
        )
