"""JSONL of other programs: which problem a row belongs to, and what is wrong with a row."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem
from screl.samples.joining import ID_KEYS, QUESTION_KEYS
from screl.samples.jsonl import TEXT_KEYS, index_jsonl, is_jsonl
from screl.samples.reader import open_runs, read_completions
from screl.samples.store import Sample

PROBLEMS = [
    Problem("a", "How many apples?", "#### 1", 1),
    Problem("b", 'Tom\'s question:\n"Who?" How many apples?', "#### 2", 2),
    Problem(7, "How many\tcherries?", "#### 3", 3),
]
IDS: list[int | str] = ["a", "b", 7]


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "outputs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, problems: list[Problem] = PROBLEMS, **options: Any) -> list[list[Sample]]:
    (run,) = open_runs(path, problems, "test", **options)
    return [of_run for _, (of_run,) in read_completions(problems, [run], 0, len(problems))]


def texts(path: Path, **options: Any) -> list[list[str]]:
    return [[sample.completion for sample in row] for row in read(path, **options)]


@pytest.mark.parametrize("key", TEXT_KEYS)
def test_each_key_of_a_completion(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, *({"id": name, key: f"of {name}"} for name in IDS))
    assert texts(path) == [["of a"], ["of b"], ["of 7"]]


def test_the_key_of_a_completion_and_those_not_read_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": name, "gen": f"of {name}", "solution": "?", "text": "!"} for name in IDS]
    assert texts(write(tmp_path, *rows)) == [["of a"], ["of b"], ["of 7"]]
    expected = "outputs.jsonl: completion from 'gen'; not read: 'solution' and 'text'\n"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("key", ID_KEYS)
def test_each_key_of_an_id_in_any_order(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, *({key: name, "text": f"of {name}"} for name in reversed(IDS)))
    assert texts(path) == [["of a"], ["of b"], ["of 7"]]


@pytest.mark.parametrize("key", QUESTION_KEYS)
@pytest.mark.parametrize("template", ["{}", "Q: How many apples?\nA: 3\nQ: {}\nA:", " {}  "])
def test_each_key_of_a_question_in_any_order(tmp_path: Path, key: str, template: str) -> None:
    """A prompt asks its last question; of several that end there, the longest."""
    rows = [{key: template.format(p.question), "text": f"of {p.line}"} for p in PROBLEMS[::-1]]
    assert texts(write(tmp_path, *rows)) == [["of 1"], ["of 2"], ["of 3"]]


def test_of_equal_questions_the_first_is_taken(tmp_path: Path) -> None:
    problems = [*PROBLEMS, Problem("d", PROBLEMS[0].question, "#### 1", 4)]
    index = index_jsonl(write(tmp_path, {"question": "How many  apples?", "text": "x"}), problems)
    assert (index.n_missing, index.first_missing()) == (3, (1, 0))


@pytest.mark.parametrize("with_id", [False, True])
def test_a_prompt_of_chat_messages(tmp_path: Path, with_id: bool) -> None:
    rows = [
        {
            "prompt": [
                {"role": "system", "content": "Solve it. It's about cherries."},
                {"role": "user", "content": problem.question},
            ],
            "completion": [{"role": "assistant", "content": f"of {problem.line}"}],
        }
        | ({"idx": problem.problem_id} if with_id else {})
        for problem in PROBLEMS
    ]
    assert texts(write(tmp_path, *rows)) == [["of 1"], ["of 2"], ["of 3"]]


def test_rows_without_id_and_question_are_joined_by_position(tmp_path: Path) -> None:
    rows = [{"id": None, "output": text} for text in "xyz"]
    assert texts(write(tmp_path, *rows)) == [["x"], ["y"], ["z"]]
    with pytest.raises(
        UserError, match=r"outputs\.jsonl:1: no id .*and 2 rows for 3 problems; add one of these"
    ):
        read(write(tmp_path, *rows[:2]), allow_partial=True)


def test_rows_and_lists_of_a_problem_are_read_in_order(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "outputs": ["a0", "a1"]},
        {"id": 7, "outputs": ["c0", "c1", "c2", "c3"]},
        {"id": "a", "outputs": "a2"},
        {"id": "b", "outputs": [["b0"], ["b1", "b2"], "b3"]},
        {"id": "a", "outputs": ["a3"]},
    ]
    path = write(tmp_path, *rows)
    (run,) = open_runs(path, PROBLEMS, "test")
    assert (run.greedy, run.n_samples) == (False, 4)
    for k in (None, 1, 2, 3):
        assert texts(path, k=k) == [[f"{name}{j}" for j in range(k or 4)] for name in "abc"]
    with pytest.raises(UserError, match="has 4 samples per problem; --k 5 is not among them"):
        read(path, k=5)


def test_one_row_per_problem_is_greedy(tmp_path: Path) -> None:
    (run,) = open_runs(write(tmp_path, *({"id": i, "text": "x"} for i in IDS)), PROBLEMS, "test")
    assert (run.greedy, run.n_samples) == (True, 1)


def lm_eval_row(number: int, problem: Problem, **values: Any) -> dict[str, Any]:
    """Return a sample as lm-evaluation-harness logs it."""
    return {
        "doc_id": number,
        "doc": {"question": problem.question, "answer": problem.solution},
        "target": problem.solution,
        "arguments": {"gen_args_0": {"arg_0": f"Question: {problem.question}\nAnswer:"}},
        "resps": [[f"of {number}"]],
        "filtered_resps": [str(number)],
        "doc_hash": "0",
        "exact_match": 0.0,
    } | values


def test_samples_logged_by_lm_evaluation_harness(tmp_path: Path) -> None:
    problems = [Problem(i, p.question, p.solution, p.line) for i, p in enumerate(PROBLEMS)]
    rows = [
        lm_eval_row(i, problem, filter=name)
        for name in ("strict-match", "flexible-extract")
        for i, problem in enumerate(problems)
    ]
    found = read(write(tmp_path, *rows), problems)
    assert found == [[Sample(i, 0, f"of {i}")] for i in range(3)]  # not each twice
    path = write(tmp_path, lm_eval_row(1, problems[0]))  # rows in another order than the problems
    with pytest.raises(UserError, match=r"jsonl:1: its question is not that of problem 1; give"):
        read(path, problems)


def test_tokens_and_finish_reason_are_read_if_they_make_sense(tmp_path: Path) -> None:
    values = [(3, "length"), (-1, "stop"), (2**31, None), (True, 1), (1.5, None), ("7", None)]
    rows = [{"id": "a", "text": "x", "n_tokens": n, "finish_reason": r} for n, r in values]
    (found,) = read(write(tmp_path, *rows), PROBLEMS[:1])
    assert found[0] == Sample("a", 0, "x", 3, "length")
    assert [(sample.n_tokens, sample.finish_reason) for sample in found[1:]] == [
        (None, "stop"),
        *[(None, None)] * 4,
    ]


def test_missing_samples_are_refused_unless_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": 7, "text": "x"}, {"id": "a", "text": ["y", "z"]})
    with pytest.raises(UserError, match=r"3 of 6 samples are missing \(first: problem 'b', samp"):
        read(path)
    assert texts(path, allow_partial=True) == [["y", "z"], [], ["x"]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "d", "text": "x"}, "no problem has the id 'd'; give the problems"),
        ({"id": ["a"], "text": "x"}, r"no problem has the id \['a'\]; give the problems"),
        ({"idx": "8", "text": "x"}, "no problem has the idx '8'; give the problems"),
        ({"question": "Pears?", "text": "x"}, "no problem has its question; give the problems"),
        (
            {"id": "a", "question": "Pears?", "text": "x"},
            "its question is not that of problem 'a'; give the problems",
        ),
        ({"text": "x"}, "no id .* and no question .* 2 rows for 3 problems; add one of these keys"),
        ({"id": "a"}, r"no completion under any of .*\(found keys: id\); rename the key"),
        ({"id": "a", "text": []}, "text holds no text or a null; for a failed generation write"),
        ({"id": "a", "text": [[[["x"]]]] * 2}, "text holds no text or a null; for a failed"),
        ([["prompt", "text"]], r"expected a JSON object, found list; \w+ or delete this line"),
        ("text", r"expected a JSON object, found str; \w+ or delete this line"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    rows = [{"id": "b", "text": "good"}, row]
    with pytest.raises(UserError, match=rf"outputs\.jsonl:2: {message}"):
        read(write(tmp_path, *rows), allow_partial=True)


def test_a_truth_value_is_not_an_id(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no problem has the id False"):
        read(write(tmp_path, {"id": False, "text": "x"}), [Problem(0, "q", "#### 1", 1)])


def test_a_deep_list_and_a_torn_line_are_named(tmp_path: Path) -> None:
    good = '{"id": "a", "text": "x"}\n\n'
    path = tmp_path / "outputs.jsonl"
    for depth in (10, 500, 1000, 100_000):
        path.write_text(good + '{"id": "b", "text": ' + "[" * depth + '"x"' + "]" * depth + "}")
        with pytest.raises(UserError, match=r"outputs\.jsonl:3: .*(text holds no text|not valid)"):
            read(path, allow_partial=True)
    path.write_text(good + '{"id": "b", "te')
    with pytest.raises(UserError, match=r"outputs\.jsonl:3: not valid JSON .*; \w+ or delete"):
        read(path, allow_partial=True)


def test_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    rows = [json.dumps({"id": i, "text": f"of {i}"}) for i in IDS]
    path.write_bytes("\r\n  \n\n{}\r\n   \r\n{}\r\n\r\n{}".format(*rows).encode())
    assert texts(path) == [["of a"], ["of b"], ["of 7"]]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '\n \n{"text": "x"}', True),
        ("raw_generation_greedy.json", '{"text": "x"}\n', False),
        ("a.jsonl", '{"gen": ["x"]}\n', False),
        ("a.jsonl", '{"gen": ["x"], "id": 1}\n', True),
        ("a.jsonl", '[["prompt", "x"]]\n', False),
        ("a.jsonl", "", False),
    ],
)
def test_which_files_are_jsonl(tmp_path: Path, name: str, content: str, expected: bool) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert is_jsonl(path) == expected
    assert not is_jsonl(tmp_path)
    assert not is_jsonl(tmp_path / "nowhere")


def test_a_first_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "x"\n')
    with pytest.raises(UserError, match=r"a\.jsonl:1: not valid JSON .*; fix or delete this line"):
        is_jsonl(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*TEXT_KEYS, "doc", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ROW = st.dictionaries(
    st.sampled_from(["id", "question", "prompt", "doc", "text", "resps", "filter", "n_tokens"]),
    JSON | st.sampled_from(["a", 7, "x", "How many apples?"]),
)


@given(row=JSON | ROW)
def test_any_row_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, row: Any) -> None:
    path = write(tmp_path_factory.mktemp("rows"), {"id": "b", "text": "good"}, row)
    try:
        assert sum(map(len, read(path, allow_partial=True))) > 1
    except UserError as error:
        message = str(error)
        assert message.startswith(f"{path}:2: ")
        assert "; " in message


@pytest.mark.parametrize("failed", [None, [], ["right", None], [["right", None]]])
def test_a_failed_generation_is_never_replaced_by_another_key(tmp_path: Path, failed: Any) -> None:
    """Another key of the row may hold the reference solution."""
    rows = [{"id": name, "completion": "x", "solution": "#### 1"} for name in IDS]
    rows[1]["completion"] = failed
    with pytest.raises(UserError, match=r"outputs.jsonl:2: completion holds no text or a null"):
        texts(write(tmp_path, *rows))
    rows[1]["completion"] = ""
    assert texts(write(tmp_path, *rows)) == [["x"], [""], ["x"]]


def test_the_problems_themselves_are_not_completions(tmp_path: Path) -> None:
    rows = [{"question": p.question, "response": p.solution} for p in PROBLEMS]
    with pytest.raises(UserError, match="every completion is its problem's solution"):
        texts(write(tmp_path, *rows))
    rows[2]["response"] = "of a model"
    assert texts(write(tmp_path, *rows)) == [["#### 1"], ["#### 2"], ["of a model"]]
