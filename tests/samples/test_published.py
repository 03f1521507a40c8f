"""The published layout: every file name and form of row is read, and every fault is named."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.core.problems import Problem, build_prompt
from screl.samples.published import MAX_EXTRA_LINES, Split, parse_row
from screl.samples.reader import Run, open_runs, read_completions

LONG = "Once there were many apples in a basket of the old farm by the river. " * 5
PROBLEMS = [
    Problem(i, f"{LONG}How many {thing}?", "#### 1", i + 1) for i, thing in enumerate("abc")
]
PAIRS = [list(pair) for pair in zip("abc", "xyz", strict=True)]


def row(problem: Problem, completion: str, prompt: str | None = None) -> str:
    return json.dumps([[prompt or build_prompt(problem.question), completion]])


def write(path: Path, *completions: str, problems: list[Problem] = PROBLEMS) -> Path:
    lines = [row(p, c) for p, c in zip(problems, completions, strict=False)]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def texts_of(run: Run, problems: list[Problem] = PROBLEMS) -> list[list[str]]:
    """Return each problem's completions in the order of sample_id."""
    rows = read_completions(problems, [run], 0, len(problems))
    return [[sample.completion for sample in of_run] for _, (of_run,) in rows]


def texts(
    path: Path, split: Split = "train", problems: list[Problem] = PROBLEMS, **options: Any
) -> list[list[str]]:
    (run,) = open_runs(path, problems, split, **options)
    return texts_of(run, problems)


def test_seeds_are_in_numeric_order_and_of_one_split(tmp_path: Path) -> None:
    for seed in (10, 9, 100):
        write(tmp_path / f"raw_generation_0.7_{seed}.json", *(f"{p}{seed}" for p in "abc"))
    write(tmp_path / "raw_generation_0.7_1_test.json", "x", "y", "z")
    write(tmp_path / "raw_generation_greedy.json", "g", "g", "g")
    (tmp_path / "notes.txt").write_text("not samples")
    assert texts(tmp_path) == [[f"{p}{seed}" for seed in (9, 10, 100)] for p in "abc"]
    assert texts(tmp_path, k=2) == [[f"{p}{seed}" for seed in (9, 10)] for p in "abc"]
    with pytest.raises(UserError, match="has 3 samples per problem; --k 4 is not among them"):
        texts(tmp_path, k=4)
    sampled, greedy = open_runs(tmp_path, PROBLEMS, "test")
    assert (sampled.greedy, sampled.n_samples) == (False, 1)
    assert texts_of(sampled) == [["x"], ["y"], ["z"]]
    assert (greedy.greedy, texts_of(greedy)) == (True, [["g"]] * 3)
    ((_, (of_sampled, of_greedy)),) = read_completions(PROBLEMS, [sampled, greedy], 0, 1)
    assert (of_sampled[0].sample_id, of_greedy[0].completion) == (0, "g")
    assert of_sampled[0].n_tokens is of_sampled[0].is_cut_off is None  # not recorded


@pytest.mark.parametrize(
    ("name", "split", "greedy"),
    [
        ("raw_generation_greedy_shard_{}.json", "test", True),
        ("raw_generation_greedy_on_test_shard_{}.json", "test", True),
        ("raw_generation_0.7sampled_on_test_seed_3_shard_{}.json", "test", False),
        ("raw_generation_0.7sampled_on_train_seed_3_shard_{}.json", "train", False),
    ],
)
def test_shards_are_joined_in_numeric_order(
    tmp_path: Path, name: str, split: Split, greedy: bool
) -> None:
    write(tmp_path / name.format(10), "c", problems=PROBLEMS[2:])
    write(tmp_path / name.format(9), "a", "b")
    (run,) = open_runs(tmp_path, PROBLEMS, split)
    assert (run.greedy, texts_of(run)) == (greedy, [["a"], ["b"], ["c"]])
    other = {"test": "train", "train": "test"}[split]
    with pytest.raises(UserError, match=f"neither a sample store .* of the {other} problems"):
        open_runs(tmp_path, PROBLEMS, other)  # type: ignore[arg-type]


def test_shards_of_several_seeds(tmp_path: Path) -> None:
    for seed in (2, 11):
        for shard, places in ((1, "c"), (0, "ab")):
            name = f"raw_generation_1.0sampled_on_train_seed_{seed}_shard_{shard}.json"
            of_shard = PROBLEMS[:2] if shard == 0 else PROBLEMS[2:]
            write(tmp_path / name, *(f"{p}{seed}" for p in places), problems=of_shard)
    assert texts(tmp_path) == [[f"{p}2", f"{p}11"] for p in "abc"]
    (tmp_path / "raw_generation_1.0sampled_on_train_seed_11_shard_0.json").unlink()
    with pytest.raises(UserError, match=r"seed_11_shard_1\.json: has 1 of 3 lines; give"):
        texts(tmp_path)
    assert texts(tmp_path, allow_partial=True) == [["a2"], ["b2"], ["c2", "c11"]]


def test_a_single_file_and_rows_without_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "raw_generation_greedy.json", "a", "b", "c")
    (run,) = open_runs(path, PROBLEMS, "test")
    assert run.greedy
    path = tmp_path / "raw_generation_0.7_3_test.json"
    path.write_text("".join(json.dumps({"gen": [text]}) + "\n" for text in "abc"))
    (run,) = open_runs(path, PROBLEMS, "test")
    assert (run.greedy, texts_of(run)) == (False, [["a"], ["b"], ["c"]])
    with pytest.raises(UserError, match=r"_test\.json:1: without a prompt"):
        open_runs(path, PROBLEMS, "test", allow_partial=True)


def test_prompts_as_the_published_sampler_leaves_them(tmp_path: Path) -> None:
    whole = build_prompt(PROBLEMS[0].question)
    respaced = whole.replace(" basket", "  basket").replace("?", " ?")
    path = tmp_path / "raw_generation_greedy.json"
    one = PROBLEMS[:1]
    for prompt in (whole[60:], whole[200:], respaced):  # cut on the left at 256 tokens; decoded
        path.write_text(row(one[0], "a", prompt) + "\n")
        for allow_partial in (False, True):
            assert texts(path, "test", one, allow_partial=allow_partial) == [["a"]]
    for prompt in (whole[-30:], " ", whole[200:-20]):
        path.write_text(row(one[0], "a", prompt) + "\n")
        with pytest.raises(UserError, match=r"greedy\.json:1: the prompt is not that of problem 0"):
            texts(path, "test", one)


def test_lines_out_of_order_are_refused_or_joined_by_question(tmp_path: Path) -> None:
    path = tmp_path / "raw_generation_0.7_1.json"
    lines = [row(PROBLEMS[i], "abc"[i]) + "\n" for i in (0, 2, 1)]
    path.write_text("".join(lines))
    with pytest.raises(UserError, match=r"_1\.json:2: the prompt is not that of problem 1"):
        texts(tmp_path)
    assert texts(tmp_path, allow_partial=True) == [["a"], ["b"], ["c"]]
    path.rename(tmp_path / "raw_generation_0.7_2.json")
    write(path, "a", "b", "c")  # one sample in order says nothing about the next
    with pytest.raises(UserError, match=r"_2\.json:2: the prompt is not that of problem 1"):
        texts(tmp_path)
    path.write_text("".join(lines[:1] * 2))
    with pytest.raises(UserError, match=r"_1\.json:2: problem 0 has sample 0 twice; delete"):
        texts(tmp_path, allow_partial=True)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_question_may_be_part_of_another_or_appear_twice(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    questions = ("How many?", "Tom asks: How many?", "How many? Really?", "Why? How many? Really?")
    problems = [Problem(i, question, "#### 1", i + 1) for i, question in enumerate(questions)]
    path = tmp_path / "raw_generation_0.7_1.json"
    write(path, *"abcd", problems=[problems[i] for i in order])
    expected = [["abcd"[order.index(i)]] for i in range(4)]
    assert texts(path, problems=problems, allow_partial=True) == expected
    again = [problems[0], *problems]
    write(path, *"xabcd", problems=again)  # in order: each problem gets its own
    expected = [["x"], ["a"], ["b"], ["c"], ["d"]]
    assert texts(path, problems=again, allow_partial=True) == expected
    write(path, *"da", problems=[problems[3], problems[0]])  # out of order: the first one
    assert texts(path, problems=again, allow_partial=True) == [["a"], [], [], [], ["d"]]


@pytest.mark.parametrize("n_lines", [0, 1, 2])
def test_a_file_that_lacks_its_last_rows(tmp_path: Path, n_lines: int) -> None:
    """The published samplers drop a last batch that is not full."""
    write(tmp_path / "raw_generation_0.7_1.json", *"abc")
    write(tmp_path / "raw_generation_0.7_2.json", *"xyz"[:n_lines])
    with pytest.raises(UserError, match=rf"_2\.json: has {n_lines} of 3 lines; .*allow_partial"):
        texts(tmp_path)
    expected = [pair[: 1 + (i < n_lines)] for i, pair in enumerate(PAIRS)]
    assert texts(tmp_path, allow_partial=True) == expected


def test_a_file_that_lacks_rows_in_between(tmp_path: Path) -> None:
    write(tmp_path / "raw_generation_0.7_1.json", "a1", "c1", problems=[PROBLEMS[0], PROBLEMS[2]])
    write(tmp_path / "raw_generation_0.7_2.json", "c2", problems=PROBLEMS[2:])
    assert texts(tmp_path, allow_partial=True) == [["a1"], [], ["c1", "c2"]]
    foreign = [Problem(0, "Another question?", "#### 1", 1)]
    with pytest.raises(UserError, match=r"_1\.json:1: the prompt contains no problem's question"):
        texts(tmp_path, problems=foreign, allow_partial=True)


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize("extra", [[0], [2, 2], [1, 2, 0, 1]])
def test_extra_rows_that_repeat_problems_are_left_out(
    tmp_path: Path, allow_partial: bool, extra: list[int]
) -> None:
    """The published samplers append their last problems, which a dropped batch might lack, and
    fill up the last batch of all processes with the first problems."""
    problems = [*PROBLEMS, *(PROBLEMS[i] for i in extra)]
    completions = [*"abc", *("extra" for _ in extra)]
    write(tmp_path / "raw_generation_0.7_1.json", *completions, problems=problems)
    write(tmp_path / "raw_generation_0.7_2.json", *"xyz")
    assert texts(tmp_path, allow_partial=allow_partial) == PAIRS


@pytest.mark.parametrize("allow_partial", [False, True])
def test_extra_rows_of_shards(tmp_path: Path, allow_partial: bool) -> None:
    name = "raw_generation_greedy_shard_{}.json"
    write(tmp_path / name.format(0), "a", "b", problems=PROBLEMS[:2])
    write(tmp_path / name.format(1), "c", "extra", problems=[PROBLEMS[2], PROBLEMS[1]])
    write(tmp_path / name.format(2), "extra", problems=PROBLEMS[:1])
    assert texts(tmp_path, "test", allow_partial=allow_partial) == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("allow_partial", [False, True])
def test_extra_rows_of_unknown_problems_are_refused(tmp_path: Path, allow_partial: bool) -> None:
    """The samples are of a longer file, of which these problems are the beginning."""
    problems = [*PROBLEMS, PROBLEMS[0], Problem(3, "One more?", "#### 1", 4)]
    write(tmp_path / "raw_generation_0.7_1.json", *"abcde", problems=problems)
    with pytest.raises(
        UserError, match=r"_1\.json:5: .*(repeats none of them|no problem's question); give the pro"
    ):
        texts(tmp_path, allow_partial=allow_partial)


def test_extra_rows_without_a_prompt_and_too_many_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw_generation_0.7_1.json"
    path.write_text('{"gen": ["x"]}\n' * 4)
    with pytest.raises(UserError, match=r"_1\.json:4: more lines than the 3 problems, and this on"):
        texts(path)
    path.write_text(f"{row(PROBLEMS[0], 'x')}\n" * (len(PROBLEMS) + MAX_EXTRA_LINES + 1))
    with pytest.raises(UserError, match=f"{MAX_EXTRA_LINES + 1} more lines than the"):
        texts(path)


def test_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "raw_generation_0.7_1.json", "a", "b", "c")
    first, second, third = path.read_bytes().splitlines()
    path.write_bytes(b"\n" + first + b"\r\n\r\n" + second + b"\n  \n" + third)
    assert texts(path) == [["a"], ["b"], ["c"]]
    path.write_bytes(b"\n" + first + b"\r\n\r\n" + second + b"\n  \n7")
    with pytest.raises(UserError, match=r"_1\.json:6: expected"):
        texts(path)


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize("n_before", [2, 3])  # on the last problem's line, and after it
def test_a_malformed_line_is_named(tmp_path: Path, allow_partial: bool, n_before: int) -> None:
    path = write(tmp_path / "raw_generation_0.7_1.json", *"abc"[:n_before])
    path.write_text(path.read_text() + '[["prompt", "torn\n')
    with pytest.raises(
        UserError, match=rf"_1\.json:{n_before + 1}: expected \[\[prompt, completion\]\].*fix"
    ):
        texts(path, allow_partial=allow_partial)


@pytest.mark.parametrize(
    "line",
    [
        *("7", "null", "true", "NaN", "Infinity", "1e999", '"ab"', "\x00", "nonsense"),
        *("[]", "{}", "[[]]", "[{}]", "[null]", "[7]", '["ab"]', '["a"]', '[["ab"]]', "[[1, 2]]"),
        *('["prompt", "completion"]', '[["prompt"]]', '[["prompt", 7]]', '[[null, "completion"]]'),
        *('[["p", "c", "more"]]', '[["p", "c"], ["p", "second"]]', '[["p", ["c"]]]'),
        *('[{"a": 1, "b": 2}]', '[[["p", "c"]]]', '{"a": "x", "b": "y"}', '{"text": "x"}'),
        *('{"gen": []}', '{"gen": "text"}', '{"gen": "a"}', '{"gen": null}', '{"gen": {"a": 1}}'),
        *('{"gen": [7]}', '{"gen": ["a", "b"]}', '{"gen": [["a"]]}'),
    ],
)
def test_no_other_form_is_taken_for_a_row(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - orjson's, or neither of the two forms
        parse_row(line.encode())


@given(prompt=st.text(), completion=st.text())
def test_both_forms_are_parsed(prompt: str, completion: str) -> None:
    assert parse_row(orjson.dumps([[prompt, completion]])) == (prompt, completion)
    assert parse_row(orjson.dumps({"gen": [completion], "x": 1})) == (None, completion)


# Values near the two forms; st.floats has NaN and infinities.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["gen", "x"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(
    value=JSON
    | st.fixed_dictionaries({"gen": JSON})
    | st.tuples(JSON)
    | st.tuples(st.tuples(JSON, JSON))
)
def test_any_line_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    """A prompt of random text is never a problem's, so only rows without one can be read."""
    path = tmp_path_factory.mktemp("any") / "raw_generation_greedy.json"
    line = json.dumps(value)
    path.write_text(row(PROBLEMS[0], "a") + "\n" + line + "\n")

    def read_or_refuse(allow_partial: bool) -> list[list[str]] | str:
        try:
            return texts(path, "test", PROBLEMS[:2], allow_partial=allow_partial)
        except UserError as error:
            return str(error)

    outcome = read_or_refuse(allow_partial=False)
    match value:
        case {"gen": [str(text)]} if "NaN" not in line and "Infinity" not in line:
            assert outcome == [["a"], [text]]
        case _:
            assert str(outcome).startswith(f"{path}:2: ")
    assert str(read_or_refuse(allow_partial=True)).startswith(f"{path}:2: ")


def test_folders_without_samples_or_with_ambiguous_ones_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw_generation_0.7_1.json", "a", "b", "c")
    with pytest.raises(UserError, match=r"neither a sample store .* of the test problems; give"):
        texts(tmp_path, "test")
    with pytest.raises(UserError, match="no such file or folder; check the path"):
        texts(tmp_path / "nowhere", "test")
    write(tmp_path / "raw_generation_1.0_2.json", "a", "b", "c")
    with pytest.raises(UserError, match=r"temperatures 0\.7 and 1\.0; move"):
        texts(tmp_path)
    (tmp_path / "raw_generation_1.0_2.json").rename(tmp_path / "raw_generation_0.7_01.json")
    with pytest.raises(UserError, match=r"_0?1.json: another file has the same seed"):
        texts(tmp_path)
