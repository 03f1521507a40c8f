"""Exemplars are right and not among the questions; the prompts are those of the harness and of
training."""

import json
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from jinja2 import TemplateError

from screl.core.io import UserError
from screl.core.problems import Problem, build_prompt, load_problems
from screl.grading.answers import extract_answer
from screl.grading.equations import check_equation, find_equations
from screl.models import prompts
from screl.models.prompts import (
    SHOTS,
    STOP,
    choose_shots,
    icl_template,
    set_trained_template,
    templated_ids,
)
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.sampling.config import SampleConfig
from tests.conftest import MINI_MODEL, ROOT, write_lines
from tests.llama_layouts import (
    LLAMA,
    N_PIECES,
    SLOW,
    train_pieces,
    write_fast,
    write_model,
    write_published,
    write_slow,
)

EXEMPLARS = load_problems(SHOTS)


def choose(config: SampleConfig, problems: list[Problem]) -> list[Problem]:
    """Return the exemplars that sample.py chooses."""
    return choose_shots(
        config.shots_path or SHOTS, config.n_shots, config.shots_seed, problems, config.data_path
    )


def rows(n: int, first: int = 0) -> list[str]:
    return [
        json.dumps({"query": f"What is {i} + {i} ?", "response": f"#### {2 * i}"})
        for i in range(first, first + n)
    ]


def config_of(folder: Path, n_asked: int = 2, **changes: object) -> SampleConfig:
    """Return a config where rows 0 to 19 are exemplars and the questions start at row 18."""
    shots = write_lines(folder / "shots.jsonl", rows(20))
    data = write_lines(folder / "data.jsonl", rows(n_asked, first=18))
    config = SampleConfig("m", data, folder / "s", prompt="icl", shots_path=shots, n_shots=3)
    return replace(config, **changes)  # type: ignore[arg-type]


def chosen(config: SampleConfig) -> list[str]:
    return [shot.question for shot in choose(config, load_problems(config.data_path))]


@pytest.mark.parametrize("shot", EXEMPLARS, ids=[str(shot.problem_id) for shot in EXEMPLARS])
def test_an_exemplar_is_right_and_looks_like_gsm8k(shot: Problem) -> None:
    equations = find_equations(shot.solution)
    assert 2 <= len(equations) <= 5
    assert {check_equation(equation, "strict") for equation in equations} == {"right"}
    assert {check_equation(equation, "paper") for equation in equations} == {"right"}
    *steps, last = shot.solution.split("\n")
    assert re.fullmatch("#### [0-9]+", last)
    assert extract_answer(shot.solution, "strict") == Fraction(last[5:])
    assert equations[-1].endswith(f"={last[5:]}")  # the last step gives the answer
    for step in steps:  # the equation repeats the text before it
        for equation in find_equations(step):
            left, right = equation.split("=")
            plain = step.replace("$", "")
            assert f"{left}=<<{equation}>>{right}" in plain
    numbers = set(re.findall("[0-9]+", shot.question))
    for equation in equations:  # from the question's numbers and earlier results
        left, right = equation.split("=")
        of_words = {"2", "3", "1", "4", "5", "100"}  # twice, two, fourth, five days, percent
        assert set(re.findall("[0-9]+", left)) <= numbers | of_words
        numbers.add(right)


def test_the_eight_exemplars_are_not_in_the_miniature() -> None:
    assert len({shot.question for shot in EXEMPLARS}) == len(EXEMPLARS) == 8
    assert STOP not in "".join(shot.question + shot.solution for shot in EXEMPLARS)
    for name in ("train", "test"):
        problems = load_problems(ROOT / f"data/mini/{name}.jsonl")
        assert choose(SampleConfig("m", Path("d"), Path("s")), problems) == EXEMPLARS


def test_the_prompt_to_the_letter() -> None:
    shots = [Problem(0, "Two {pens}?", "It is\n#### 2", 1), Problem(1, "{question}", "#### 3", 2)]
    template = icl_template(shots)
    assert build_prompt("How\nmany {question}?", template) == (
        "Question: Two {pens}?\nAnswer: It is\n#### 2\n\n"
        "Question: {question}\nAnswer: #### 3\n\n"
        "Question: How\nmany {question}?\nAnswer:"
    )
    assert icl_template([]) == "Question: {question}\nAnswer:"


def test_the_default_is_the_first_rows_in_order(tmp_path: Path) -> None:
    assert chosen(config_of(tmp_path)) == [f"What is {i} + {i} ?" for i in range(3)]


def test_the_shipped_exemplars_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = replace(config_of(tmp_path), shots_path=None, n_shots=8)
    assert chosen(config) == [shot.question for shot in EXEMPLARS]


def test_random_rows_depend_on_the_seed_and_skip_the_questions(tmp_path: Path) -> None:
    found = {
        seed: chosen(config_of(tmp_path, n_asked=12, shots_seed=seed, n_shots=12))
        for seed in range(20)
    }
    assert found[3] == chosen(config_of(tmp_path, n_asked=12, shots_seed=3, n_shots=12))
    assert len({tuple(questions) for questions in found.values()}) == 20  # in order, too
    everything = {f"What is {i} + {i} ?" for i in range(18)}
    for questions in found.values():
        assert len(set(questions)) == 12
        assert set(questions) < everything
    assert len({questions[0] for questions in found.values()}) > 8
    fewer = chosen(config_of(tmp_path, n_asked=12, shots_seed=3, n_shots=4))
    assert fewer == found[3][:4]


def test_one_more_question_changes_no_other_choice(tmp_path: Path) -> None:
    everything = chosen(config_of(tmp_path, n_asked=1, shots_seed=0, n_shots=19))
    asked = [json.loads(row)["query"] for row in rows(2, first=18)]
    without = chosen(config_of(tmp_path, n_asked=2, shots_seed=0, n_shots=18))
    assert without == [question for question in everything if question not in asked]


def test_an_exemplar_that_is_also_a_question_is_named(tmp_path: Path) -> None:
    data = write_lines(
        tmp_path / "other.jsonl", [*rows(1, 50), rows(1, 1)[0].replace(" + 1 ?", "\\n+1?")]
    )
    config = config_of(tmp_path, data_path=data)
    with pytest.raises(UserError) as error:
        chosen(config)
    assert str(error.value) == (
        f"{tmp_path}/shots.jsonl:2: this question is also asked ({data}:2), and the prompt would "
        "hold its solution; take one of the two rows out, or draw other exemplars with --shots_seed"
    )
    assert len(chosen(replace(config, n_shots=1))) == 1  # the question is not among the exemplars
    assert len(chosen(replace(config, shots_seed=0, n_shots=19))) == 19


def test_too_few_exemplars_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"shots\.jsonl: has 20 rows, too few for --n_shots 21; "):
        chosen(config_of(tmp_path, data_path=write_lines(tmp_path / "d", rows(1, 90)), n_shots=21))
    message = r"shots\.jsonl: has 18 rows that are not in .*data\.jsonl, too few for --n_shots 19; "
    with pytest.raises(UserError, match=message):
        chosen(config_of(tmp_path, shots_seed=1, n_shots=19))


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return train_pieces()


def layout(kind: str, folder: Path, pieces: bytes) -> Path:
    """Write a tokenizer in one of LLaMA's layouts, or return the miniature's."""
    if kind == "miniature":
        return MINI_MODEL
    write_model(folder, N_PIECES + 1)
    if kind == "published":  # every special token is </s>
        return write_published(folder, pieces)
    if kind == "fast":
        return write_fast(folder, pieces, SLOW | LLAMA, "<s> $A")
    return write_slow(folder, pieces, SLOW | LLAMA | {"add_bos_token": kind == "slow"})


@pytest.mark.parametrize("kind", ["miniature", "slow", "slow without BOS", "published", "fast"])
def test_the_saved_chat_template_yields_the_trained_tokens(
    kind: str, tmp_path: Path, pieces: bytes
) -> None:
    base = layout(kind, tmp_path / "base", pieces)
    tokenizer = load_tokenizer(str(base))
    tokenizer.chat_template = "{{ messages[0].content }}<|assistant|>"  # that of another training
    set_trained_template(tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    shutil.copy(base / "config.json", tmp_path / "saved")
    saved = load_tokenizer(str(tmp_path / "saved"))
    for question in ("How many?", " 2 + 2 ", 'A "quoted" {name}\nand a second line\n'):
        expected = prompt_ids(saved, build_prompt(question))
        message = {"role": "user", "content": question}
        assert (
            saved.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
            == expected
        )
        assert templated_ids(saved, question) == expected
    answered = [message, {"role": "assistant", "content": "It is\n#### 4"}]
    text = saved.apply_chat_template(answered, tokenize=False)
    assert text.endswith(build_prompt(question) + "It is\n#### 4" + saved.eos_token)


@pytest.mark.parametrize(
    "roles", [["system", "user"], ["user", "assistant", "user"], ["assistant"]]
)
def test_conversations_that_the_model_has_not_seen_are_refused(roles: list[str]) -> None:
    tokenizer = load_tokenizer(str(MINI_MODEL))
    set_trained_template(tokenizer)
    with pytest.raises(TemplateError, match="trained on one question at a time"):
        tokenizer.apply_chat_template([{"role": role, "content": "2 + 2?"} for role in roles])


def test_a_template_that_does_not_take_a_question_yields_no_tokens() -> None:
    tokenizer = load_tokenizer(str(MINI_MODEL))
    assert templated_ids(tokenizer, "2 + 2?") is None
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert templated_ids(tokenizer, "2 + 2?") is None


def test_a_tokenizer_that_no_template_fits_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(str(MINI_MODEL))
    tokenizer.chat_template = "{{ messages[0].content }}"
    monkeypatch.setattr(prompts, "trained_template", lambda prefix: prefix)
    assert not set_trained_template(tokenizer)
    assert tokenizer.chat_template is None
