"""``train.py --doctor MODEL``: what a model is fed and generates, and what of its files disagrees.

No weights are loaded: their names, shapes and dtypes come from the headers of the safetensors.
"""

from collections.abc import Iterator
from pathlib import Path

from screl.doctor_checks import EXAMPLE, Findings, mismatches, notes, positions, show
from screl.files import UserError
from screl.modeling import (
    empty_model,
    load_generation_config,
    load_tokenizer,
    pad_id,
    prompt_ids,
    vocabulary_size,
)
from screl.prompts import build_prompt
from screl.sft_data import tokenize_example
from screl.tokenizer_files import is_llama, tokenizer_settings
from screl.weight_headers import Headers, read_headers


def examine(name: str) -> tuple[str, list[str]]:
    """The report on a model as text, and its mismatches, one line each with the remedy.

    UserError if it has no config or no usable tokenizer.
    """
    found = look_at(name)
    wrong = list(mismatches(found))
    lines = [name, *report(found)]
    lines += [f"note      {line}" for line in notes(found)]
    lines += [f"MISMATCH  {line}" for line in wrong]
    return "\n".join(lines if wrong else [*lines, "no mismatch"]), wrong


def look_at(name: str) -> Findings:
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


def report(found: Findings) -> Iterator[str]:
    """The aligned lines of what is fed and generated."""
    row, n_prompt, tokenizer = found.row, found.n_prompt, found.tokenizer
    table = [
        ("training row", f"{len(row)} tokens, {len(row) - n_prompt} of them with loss"),
        ("  first 5", show(tokenizer, row[:5])),
        ("  last 5", show(tokenizer, row[-5:])),
        ("  loss", f"from {show(tokenizer, row[n_prompt : n_prompt + 1])} "
                   f"to {show(tokenizer, row[-1:])}"),
        ("prompt", f"{len(found.prompt)} tokens"),
        ("  first 5", show(tokenizer, found.prompt[:5])),
        ("  last 5", show(tokenizer, found.prompt[-5:])),
        ("BOS", f"{show(tokenizer, found.prefix) or 'none'}, {why_bos(found)}"),
        ("EOS", f"{show(tokenizer, found.ends)} end a completion"),
        ("pad", f"{show(tokenizer, [pad_id(tokenizer)])}, masked by position"),
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
