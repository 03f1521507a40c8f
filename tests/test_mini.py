"""Check the miniature: valid solutions, several paths per kind, no test problem in training."""

import json
import re
from collections import Counter
from itertools import islice
from random import Random

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.mini.generate import draw_instances, shipped_sets, to_rows
from data.mini.kinds import KINDS, PEOPLE, THINGS
from data.mini.pretraining_text import (
    documents,
    random_equation,
    train_tokenizer,
)
from screl.core.problems import Problem, build_prompt, load_problems
from screl.grading.answers import Fidelity, extract_answer
from screl.grading.equations import check_equation, equation_path, find_equations
from tests.conftest import MINI_MODEL, ROOT

MINI = ROOT / "data/mini"
TRAIN, TEST = load_problems(MINI / "train.jsonl"), load_problems(MINI / "test.jsonl")
EVERYTHING = TRAIN + TEST


def kind_of(problem: Problem) -> str:
    return str(problem.problem_id).split("-")[2]


def has_valid_equations(text: str, fidelity: Fidelity) -> bool:
    return all(check_equation(equation, fidelity) == "right" for equation in find_equations(text))


def numbers_of(text: str) -> tuple[str, ...]:
    """Return the numbers of a question, sorted."""
    return tuple(sorted(re.findall(r"\d+(?:\.\d+)?", text)))


def masked(text: str) -> str:
    """Return the question without its names, things, and numbers."""
    text = re.sub(r"\d+(?:\.\d+)?", "#", text)
    return re.sub(rf"\b({'|'.join(PEOPLE + THINGS)})\b", "_", text)


def test_the_problems_are_many_and_varied() -> None:
    assert len(TRAIN) >= 1000
    assert len(TEST) >= 500
    assert len(KINDS) >= 12
    assert {kind_of(problem) for problem in TRAIN} == {kind.name for kind in KINDS}
    assert {kind_of(problem) for problem in TEST} == {kind.name for kind in KINDS}
    n_steps = Counter(problem.solution.count("<<") for problem in EVERYTHING)
    assert set(n_steps) == {2, 3, 4, 5}
    assert sum("." in problem.solution.split("#### ")[1] for problem in EVERYTHING) > 100


def test_the_committed_rows_are_what_the_generator_writes() -> None:
    for split, instances in shipped_sets(seed=0).items():
        assert (MINI / f"{split}.jsonl").read_text() == "".join(to_rows(split, instances, 0))


def test_no_question_occurs_twice() -> None:
    assert len({p.question for p in EVERYTHING}) == len(EVERYTHING)


def test_no_test_problem_is_a_train_problem_under_other_names() -> None:
    """Compare kind and numbers, in any order, and masked wording and numbers."""
    in_train = {(kind_of(p), numbers_of(p.question)) for p in TRAIN}
    assert not in_train & {(kind_of(p), numbers_of(p.question)) for p in TEST}
    worded = {(masked(p.question), numbers_of(p.question)) for p in TRAIN}
    assert not worded & {(masked(p.question), numbers_of(p.question)) for p in TEST}


def test_no_pre_training_problem_is_a_shipped_one() -> None:
    """Compare numbers and masked wording, since pre-training text does not name its kinds."""
    shipped = {(masked(p.question), numbers_of(p.question)) for p in EVERYTHING}
    questions = [
        text[: max(text.rfind("? "), text.rfind("?")) + 1] for text in islice(documents(0), 3000)
    ]
    questions = [question for question in questions if question]
    assert len(questions) > 1000
    assert not shipped & {(masked(q), numbers_of(q)) for q in questions}


def test_pre_training_text_has_neither_annotations_nor_answer_lines() -> None:
    assert not any("<<" in text or "####" in text for text in islice(documents(1), 2000))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_has_several_truly_different_valid_paths(kind) -> None:
    """At least two paths differ by more than the order of the operands."""
    instances = draw_instances(Random(5), set())
    n_distinct = []
    for instance in islice((i for i in instances if i.kind is kind), 10):
        solutions = [instance.solution(path) for path in range(len(kind.paths))]
        n_distinct.append(len({equation_path(text) for text in solutions}))
        assert len({extract_answer(text, "strict") for text in solutions}) == 1
        for text in solutions:
            assert has_valid_equations(text, "strict"), text
            assert has_valid_equations(text, "paper"), text
    assert max(n_distinct) == len(kind.paths) >= 3  # equal numbers can make two paths alike
    assert min(n_distinct) >= 2
    unordered = {
        tuple(sorted("".join(sorted(step.split(" = ")[0])) for step in path.split("; ")))
        for path in kind.paths
    }
    assert len(unordered) >= 2


def test_gold_solutions_hold_in_both_fidelities() -> None:
    for problem in EVERYTHING:
        assert has_valid_equations(problem.solution, "strict"), problem
        assert has_valid_equations(problem.solution, "paper"), problem
        assert extract_answer(problem.solution, "strict") is not None


def test_pre_training_equations_are_true() -> None:
    random = Random(0)
    for _ in range(2000):
        assert has_valid_equations(f"<<{random_equation(random)}>>", "strict")


def test_the_model_is_small_and_loads() -> None:
    files = [path for path in [*MINI.iterdir(), *MINI_MODEL.iterdir()] if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4e6  # with the problems
    assert (MINI_MODEL / "model.safetensors").is_file()
    model = AutoModelForCausalLM.from_pretrained(MINI_MODEL)
    tokenizer = AutoTokenizer.from_pretrained(MINI_MODEL)
    assert model.config.model_type == "llama"
    assert model.config.vocab_size == len(tokenizer)
    ids = (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id)
    assert ids == (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_the_committed_tokenizer_is_what_the_generator_trains() -> None:
    """Unlike the weights, the vocabulary does not depend on the CPU."""
    made = json.loads(train_tokenizer(seed=0, vocab_size=768).backend_tokenizer.to_str())
    shipped = json.loads((MINI_MODEL / "tokenizer.json").read_text())
    assert made["model"] == shipped["model"]
    assert made["pre_tokenizer"] == shipped["pre_tokenizer"]
    assert made["added_tokens"] == shipped["added_tokens"]


@pytest.mark.parametrize("text", ["½ €3 <<1+2=3>>3\n#### 3\n\n", "a  b\t{}", "\x00\u2028"])
def test_the_tokenizer_loses_nothing(text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MINI_MODEL)
    for whole in (text, build_prompt(TRAIN[0].question) + text):
        ids = tokenizer(whole).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == whole


def test_each_digit_is_a_token() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MINI_MODEL)
    tokens = tokenizer.tokenize("<<1234*5=6170>>")
    assert not [token for token in tokens if len(re.findall(r"\d", token)) > 1]
