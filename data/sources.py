"""Where each dataset comes from, what its content must be, and how a row becomes a problem.

A problem is ``{"query", "response", "answer", ("problem_id"), ...}``: ``response`` only where the
dataset has worked solutions, ``answer`` the short final answer by which completions are graded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from data.asdiv import LeftOut, unit_and_number, worked_solution
from screl.core.io import UserError
from screl.core.layouts import is_worked
from screl.grading.boxed import last_boxed
from screl.grading.numbers import read_number

Row = dict[str, Any]
# Makes the problem of a row and its number from 0; raises LeftOut or, for other keys, UserError.
Convert = Callable[[Row, int], Row]


@dataclass(frozen=True)
class Edition:
    """The content of one split: its source rows and the SHA-256 of the problems made of them.

    ``sha256`` is None where nobody has computed it yet: then only the rows are counted.
    """

    n_rows: int
    sha256: str | None = None


@dataclass(frozen=True)
class Split:
    """One output file; ``local`` is what --source must hold, ``hub`` what is downloaded."""

    output: str
    local: Edition
    hub: Edition
    hub_splits: tuple[str, ...]
    files: tuple[str, ...]
    is_optional: bool = False


@dataclass(frozen=True)
class Source:
    """A dataset: its hub id, None if no hub dataset is known to be the same, and its splits."""

    hub_id: str | None
    configs: tuple[str, ...]
    splits: dict[str, Split]
    convert: Convert


def text_under(keys: Sequence[str], row: Row) -> str:
    """Return the text under the first of ``keys`` that has one; raise UserError without any."""
    for key in keys:
        if isinstance(row.get(key), str) and (row[key] or key in ("query", "response")):
            return str(row[key])
    raise UserError(
        f"no text under {' or '.join(map(repr, keys))} (found keys: {', '.join(row)}); every row "
        "needs a question and its solution"
    )


def number_under(key: str, row: Row) -> str:
    """Return the number under ``key`` as text, without an exponent and without float's noise.

    15 significant digits are what a float holds for certain: 3244047.0999999996 is 3244047.1.
    """
    value = row.get(key)
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise UserError(f"no number under {key!r} (found {value!r})") from None
    plain = f"{number:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def gsm8k(row: Row, number: int) -> Row:
    """Return GSM8K's two texts, whose bytes are fixed."""
    return {
        "query": text_under(("query", "question"), row),
        "response": text_under(("response", "answer"), row),
    }


def gsm8k_platinum(row: Row, number: int) -> Row:
    """Return a row of GSM8K's layout with its answer; a bare ``#### n`` is no worked solution."""
    problem = gsm8k(row, number)
    answer = problem["response"].rpartition("####")[2].strip()
    return (problem if is_worked(problem["response"]) else {"query": problem["query"]}) | {
        "answer": answer
    }


def math(row: Row, number: int) -> Row:
    """Return a MATH problem with the content of its solution's last box, its level and subject."""
    solution = text_under(("solution",), row)
    answer = last_boxed(solution)
    if answer is None:
        raise UserError(r"the solution has no \boxed{...}")
    problem = {"query": text_under(("problem",), row), "response": solution, "answer": answer}
    return problem | {"level": row.get("level"), "type": row.get("type")}


def math500(row: Row, number: int) -> Row:
    """Return a MATH-500 problem, which states its answer, its subject and its id."""
    return {
        "query": text_under(("problem",), row),
        "response": text_under(("solution",), row),
        "answer": text_under(("answer",), row),
        "problem_id": text_under(("unique_id",), row),
        "level": row.get("level"),
        "type": row.get("subject"),
    }


def svamp(row: Row, number: int) -> Row:
    """Return SVAMP's body and question as one text; a body without an end gets a full stop."""
    body = text_under(("Body",), row).strip()
    body += "" if body.endswith((".", "?", "!", ",")) else "."
    return {
        "query": f"{body} {text_under(('Question',), row).strip()}",
        "answer": number_under("Answer", row),
        "problem_id": text_under(("ID",), row),
        "type": row.get("Type"),
    }


def asdiv(row: Row, number: int) -> Row:
    """Return ASDiv's body and question as one text; raise LeftOut if the answer is no number."""
    answer, _ = unit_and_number(text_under(("answer",), row))
    if read_number(answer) is None:
        raise LeftOut("the answer is not one number (a name, a time, a ratio, a fraction)")
    return {
        "query": f"{text_under(('body',), row).strip()} {text_under(('question',), row).strip()}",
        "answer": answer,
        "problem_id": number,
        "type": row.get("solution_type"),
    }


def asdiv_solutions(row: Row, number: int) -> Row:
    """Return asdiv's problem with a worked solution; raise LeftOut if its formula gives none."""
    problem = asdiv(row, number)
    response = worked_solution(text_under(("formula",), row), text_under(("answer",), row))
    return {"query": problem["query"], "response": response} | problem


def mawps(row: Row, number: int) -> Row:
    """Return a MAWPS problem with the part that it is from (addsub, multiarith, ...)."""
    question, answer = text_under(("input",), row).strip(), number_under("target", row)
    return {"query": question, "answer": answer, "type": row.get("type")}


def gsm_hard(row: Row, number: int) -> Row:
    """Return a GSM-Hard problem; its solutions are programs and are left out."""
    return {"query": text_under(("input",), row).strip(), "answer": number_under("target", row)}


SUBJECTS = (
    *("algebra", "counting_and_probability", "geometry", "intermediate_algebra"),
    *("number_theory", "prealgebra", "precalculus"),
)
# Of the problems made of the local files. For the hub's rows only GSM8K's are known.
SHA256 = {
    "train_use": "2903868cbd1c745c36bb45daa0402c393b7ddb373edc77e4937c47496ccdbde3",
    "test_use": "e8b472800f8dee3d0a8f61066b3d786c53fa2775396bedb8e3dfabe7b641661a",
    "math_test": "3e3dc2df51920ec536a8796d8f0c7da1962f7a09b035b9bd316448ac4efc799c",
    "svamp": "803872b1c0c22a4ad90e3342e1136a2a3871b4b83f35d208e129b64cf51eac2b",
    "asdiv": "2c84b493bf3b829a6f3e33e9ada6de6cfda9e5212df70e4182d97215f3a48a8f",
    "asdiv_solutions": "2d6ba5956f6818d47c288b0bf6ae5e1dfcd20c7b2241e5f624eafa2b51ef6e0f",
    "mawps": "34174c434832a4b409d731cdc4400a85f51fdd260131756e7c5201b52f0fbee6",
    "gsm_hard": "d37ee1398e45fc8123bcd43789113449fdbd3ed7ca31422ac92aa49508057e20",
}


def _split(
    output: str,
    files: tuple[str, ...],
    local: int,
    hub: int | None = None,
    hub_splits: tuple[str, ...] = ("test",),
    is_optional: bool = False,
) -> Split:
    """Return a split whose ``local`` rows have the SHA-256 above; ``hub`` is None if it is equal.

    The hub's number of rows is from its dataset card.
    """
    editions = Edition(local, SHA256.get(output)), Edition(hub or local)
    return Split(f"{output}.jsonl", *editions, hub_splits, files, is_optional)


def _gsm8k_split(name: str, n_rows: int) -> Split:
    edition = Edition(n_rows, SHA256[f"{name}_use"])
    return Split(f"{name}_use.jsonl", edition, edition, (name,), (f"{name}.jsonl",))


def _asdiv(output: str, convert: Convert) -> Source:
    split = _split(output, ("asdiv.jsonl", "test.jsonl"), 2215, 2305, ("validation",))
    return Source("EleutherAI/asdiv", ("asdiv",), {"test": split}, convert)


def _test_only(
    hub_id: str | None,
    name: str,
    n_rows: int,
    convert: Convert,
    config: str = "default",
    hub_splits: tuple[str, ...] = ("test",),
) -> Source:
    split = _split(name, (f"{name}.jsonl", "test.jsonl"), n_rows, hub_splits=hub_splits)
    return Source(hub_id, (config,), {"test": split}, convert)


SOURCES = {
    "gsm8k": Source(
        "openai/gsm8k",
        ("main",),
        {"train": _gsm8k_split("train", 7473), "test": _gsm8k_split("test", 1319)},
        gsm8k,
    ),
    "gsm8k_platinum": _test_only(
        "madrylab/gsm8k-platinum", "gsm8k_platinum", 1209, gsm8k_platinum, config="main"
    ),
    "math": Source(
        "EleutherAI/hendrycks_math",
        SUBJECTS,
        {
            "train": _split(
                "math_train", ("train.jsonl",), 7500, hub_splits=("train",), is_optional=True
            ),
            "test": _split("math_test", ("test.jsonl",), 5000),
        },
        math,
    ),
    "math500": _test_only("HuggingFaceH4/MATH-500", "math500", 500, math500),
    "svamp": _test_only("ChilleD/SVAMP", "svamp", 1000, svamp, hub_splits=("train", "test")),
    "asdiv": _asdiv("asdiv", asdiv),
    "asdiv_solutions": _asdiv("asdiv_solutions", asdiv_solutions),
    "mawps": _test_only(None, "mawps", 2065, mawps),
    "gsm_hard": _test_only(
        "reasoning-machines/gsm-hard", "gsm_hard", 1319, gsm_hard, hub_splits=("train",)
    ),
}
