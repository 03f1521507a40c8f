"""Reading the published layout and sample stores; every way to be wrong is told with its place."""

import json
from pathlib import Path

import pytest

from screl.completions import Completions, load_completions, other_data_warning
from screl.files import UserError, write_json
from screl.problems import Problem
from screl.prompts import build_prompt
from screl.store import Sample, SampleWriter

GOLDEN = Path(__file__).parent / "data/golden"
LONG = "Once there were many apples in a basket of the old farm by the river. " * 5
PROBLEMS = [
    Problem(i, f"{LONG}How many {thing}?", "#### 1", i + 1) for i, thing in enumerate("abc")
]


def row(problem: Problem, completion: str, prompt: str | None = None) -> str:
    return json.dumps([[prompt or build_prompt(problem.question), completion]])


def write(path: Path, *completions: str, problems: list[Problem] = PROBLEMS) -> Path:
    lines = [row(p, c) for p, c in zip(problems, completions, strict=False)]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def texts(runs: list[Completions]) -> list[list[str]]:
    (run,) = runs
    return run.by_problem


def test_seeds_are_in_numeric_order_and_of_one_split(tmp_path: Path) -> None:
    for seed in (10, 9, 100):
        write(tmp_path / f"raw_generation_0.7_{seed}.json", *(f"{p}{seed}" for p in "abc"))
    write(tmp_path / "raw_generation_0.7_1_test.json", "x", "y", "z")
    write(tmp_path / "raw_generation_greedy.json", "g", "g", "g")
    (tmp_path / "notes.txt").write_text("not samples")
    expected = [[f"{p}{seed}" for seed in (9, 10, 100)] for p in "abc"]
    assert texts(load_completions(tmp_path, PROBLEMS, "train")) == expected
    sampled, greedy = load_completions(tmp_path, PROBLEMS, "test")
    assert (sampled.greedy, sampled.n_samples, sampled.by_problem) == (
        False,
        1,
        [["x"], ["y"], ["z"]],
    )
    assert (greedy.greedy, greedy.by_problem) == (True, [["g"]] * 3)
    assert sampled.n_cut_off is None


def test_k_takes_the_first_seeds(tmp_path: Path) -> None:
    for seed in (1, 2, 10):
        write(tmp_path / f"raw_generation_0.7_{seed}.json", *f"{seed}{seed}{seed}"[:3])
    assert texts(load_completions(tmp_path, PROBLEMS, "train", k=2)) == [["1", "2"]] * 3
    with pytest.raises(UserError, match="has 3 samples per problem; --k 4 is not among them"):
        load_completions(tmp_path, PROBLEMS, "train", k=4)


@pytest.mark.parametrize(
    ("name", "greedy"),
    [
        ("raw_generation_greedy_shard_{}.json", True),
        ("raw_generation_greedy_on_test_shard_{}.json", True),
        ("raw_generation_0.7sampled_on_test_seed_3_shard_{}.json", False),
    ],
)
def test_shards_are_joined_in_numeric_order(tmp_path: Path, name: str, greedy: bool) -> None:
    write(tmp_path / name.format(10), "c", problems=PROBLEMS[2:])
    write(tmp_path / name.format(9), "a", "b")
    (run,) = load_completions(tmp_path, PROBLEMS, "test")
    assert (run.greedy, run.by_problem) == (greedy, [["a"], ["b"], ["c"]])


def test_a_single_file_and_rows_without_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "raw_generation_greedy.json", "a", "b", "c")
    (run,) = load_completions(path, PROBLEMS, "test")
    assert run.greedy
    path = tmp_path / "raw_generation_0.7_3_test.json"
    path.write_text("".join(json.dumps({"gen": [text]}) + "\n" for text in "abc"))
    (run,) = load_completions(path, PROBLEMS, "test")
    assert (run.greedy, run.by_problem) == (False, [["a"], ["b"], ["c"]])
    with pytest.raises(UserError, match=r"_test\.json:1: without a prompt"):
        load_completions(path, PROBLEMS, "test", allow_partial=True)


def test_prompts_as_the_published_sampler_leaves_them(tmp_path: Path) -> None:
    whole = build_prompt(PROBLEMS[0].question)
    respaced = whole.replace(" basket", "  basket").replace("?", " ?")
    path = tmp_path / "raw_generation_greedy.json"
    for prompt in (whole[60:], whole[200:], respaced):  # cut on the left at 256 tokens; decoded
        path.write_text(row(PROBLEMS[0], "a", prompt) + "\n")
        assert texts(load_completions(path, PROBLEMS[:1], "test")) == [["a"]]
    for prompt in (whole[-30:], " ", whole[200:-20]):
        path.write_text(row(PROBLEMS[0], "a", prompt) + "\n")
        with pytest.raises(UserError, match="the prompt is not that of problem 0"):
            load_completions(path, PROBLEMS[:1], "test")


def test_lines_out_of_order_are_refused_or_joined_by_question(tmp_path: Path) -> None:
    path = tmp_path / "raw_generation_0.7_1.json"
    lines = [row(PROBLEMS[i], "abc"[i]) + "\n" for i in (0, 2, 1)]
    path.write_text("".join(lines))
    with pytest.raises(UserError, match=r"_1\.json:2: the prompt is not that of problem 1"):
        load_completions(tmp_path, PROBLEMS, "train")
    runs = load_completions(tmp_path, PROBLEMS, "train", allow_partial=True)
    assert texts(runs) == [["a"], ["b"], ["c"]]
    path.write_text("".join(lines[:1] * 2))
    with pytest.raises(UserError, match=r"_1\.json:2: problem 0 is there twice"):
        load_completions(tmp_path, PROBLEMS, "train", allow_partial=True)


@pytest.mark.parametrize("n_lines", [0, 2, 4])
def test_another_number_of_lines_is_refused(tmp_path: Path, n_lines: int) -> None:
    problems = [*PROBLEMS, Problem(3, "One more?", "#### 1", 4)]
    write(tmp_path / "raw_generation_0.7_1.json", *"abcd"[:n_lines], problems=problems)
    with pytest.raises(
        UserError, match=f"_1.json: {n_lines} lines for 3 problems; .*allow_partial"
    ):
        load_completions(tmp_path, PROBLEMS, "train")


def test_what_is_there_of_a_file_is_joined_if_allowed(tmp_path: Path) -> None:
    write(tmp_path / "raw_generation_0.7_1.json", "a1", "c1", problems=[PROBLEMS[0], PROBLEMS[2]])
    write(tmp_path / "raw_generation_0.7_2.json", "c2", problems=PROBLEMS[2:])
    runs = load_completions(tmp_path, PROBLEMS, "train", allow_partial=True)
    assert texts(runs) == [["a1"], [], ["c1", "c2"]]
    foreign = [Problem(0, "Another question?", "#### 1", 1)]
    with pytest.raises(UserError, match=r"_1\.json:1: the prompt holds the question of no problem"):
        load_completions(tmp_path, foreign, "train", allow_partial=True)


@pytest.mark.parametrize(
    "line",
    [
        '[["prompt", "torn',
        "",
        "7",
        "null",
        "[]",
        '["prompt", "completion"]',
        '[["prompt"]]',
        '[["prompt", 7]]',
        '[["p", "c"], ["p", "second"]]',
        '{"gen": []}',
        '{"gen": "text"}',
        '{"text": "x"}',
        "\x00",
    ],
)
@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_malformed_line_is_named(tmp_path: Path, line: str, allow_partial: bool) -> None:
    path = write(tmp_path / "raw_generation_0.7_1.json", "a", "b")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"_1\.json:3: expected \[\[prompt, completion\]\].*mend"):
        load_completions(tmp_path, PROBLEMS, "train", allow_partial)


def test_two_temperatures_in_a_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw_generation_0.7_1.json", "a", "b", "c")
    write(tmp_path / "raw_generation_1.0_2.json", "a", "b", "c")
    with pytest.raises(UserError, match=r"temperatures 0\.7 and 1\.0; move"):
        load_completions(tmp_path, PROBLEMS, "train")


def test_a_folder_without_samples_and_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "raw_generation_0.7_1.json", "a", "b", "c")
    with pytest.raises(UserError, match=r"neither a sample store .* of the test problems; give"):
        load_completions(tmp_path, PROBLEMS, "test")
    with pytest.raises(UserError, match="no such file or folder; check the path"):
        load_completions(tmp_path / "nowhere", PROBLEMS, "test")


def make_store(folder: Path, samples: list[Sample], **manifest: object) -> Path:
    write_json(folder / "manifest.json", {"n_samples": 2, "greedy": False} | manifest)
    with SampleWriter(folder) as writer:
        writer.write(samples)
    return folder


def all_samples() -> list[Sample]:
    """In an order of their own: the last sample first."""
    return [
        Sample(i, j, f"{i}.{j}", 1, "length" if i == j else "stop")
        for j in (1, 0)
        for i in (2, 0, 1)
    ]


def test_a_store_is_joined_by_id_in_sample_order(tmp_path: Path) -> None:
    (run,) = load_completions(make_store(tmp_path, all_samples()), PROBLEMS, "test")
    assert run.by_problem == [["0.0", "0.1"], ["1.0", "1.1"], ["2.0", "2.1"]]
    assert (run.greedy, run.n_samples, run.n_cut_off) == (False, 2, 2)
    (run,) = load_completions(tmp_path, PROBLEMS, "test", k=1)
    assert (run.by_problem, run.n_cut_off) == ([["0.0"], ["1.0"], ["2.0"]], 1)


def test_a_greedy_store(tmp_path: Path) -> None:
    samples = [Sample(i, 0, "x", 1, "stop") for i in range(3)]
    (run,) = load_completions(
        make_store(tmp_path, samples, n_samples=1, greedy=True), PROBLEMS, "test"
    )
    assert run.greedy


def test_missing_samples_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    samples = [s for s in all_samples() if (s.problem_id, s.sample_id) not in {(1, 1), (2, 0)}]
    make_store(tmp_path, samples)
    with pytest.raises(
        UserError,
        match=r"2 of 6 samples are missing \(first: problem 1, sample 1\); run sample\.py again or",
    ):
        load_completions(tmp_path, PROBLEMS, "test")
    (run,) = load_completions(tmp_path, PROBLEMS, "test", allow_partial=True)
    assert run.by_problem == [["0.0", "0.1"], ["1.0"], ["2.1"]]
    # the first sample of every problem is enough for k = 1, but for problem 2
    with pytest.raises(
        UserError, match=r"1 of 3 samples are missing \(first: problem 2, sample 0\)"
    ):
        load_completions(tmp_path, PROBLEMS, "test", k=1)


def test_a_store_of_other_problems_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path, [Sample("other", 0, "x", 1, "stop")], data_path="other.jsonl")
    with pytest.raises(UserError, match=r"problem 'other' .*sampled for \(other\.jsonl\)"):
        load_completions(tmp_path, PROBLEMS, "test", allow_partial=True)


def test_a_broken_manifest_is_an_error_of_one_line(tmp_path: Path) -> None:
    for manifest in ("[]", "{}", '{"n_samples": "two"}', "{"):
        (tmp_path / "manifest.json").write_text(manifest)
        with pytest.raises(UserError, match=r"manifest\.json: .+"):
            load_completions(tmp_path, PROBLEMS, "test")


@pytest.mark.parametrize(
    "values", [{"problem_id": [1]}, {"sample_id": "1"}, {"completion": None}, {"more": 1}]
)
def test_a_malformed_sample_is_named(tmp_path: Path, values: dict[str, object]) -> None:
    make_store(tmp_path, all_samples()[:1])
    sample = {"problem_id": 0, "sample_id": 0, "completion": "", "n_tokens": 1}
    line = json.dumps(sample | {"finish_reason": "stop"} | values) + "\n"
    with open(tmp_path / "samples-0.jsonl", "a") as file:
        file.write(line)
    with pytest.raises(UserError, match=r"samples-0\.jsonl:2: .*mend or delete this line"):
        load_completions(tmp_path, PROBLEMS, "test")


def test_samples_of_other_data_are_warned_about(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("{}")
    store = make_store(tmp_path / "store", [], data_path="old.jsonl", data_sha256="0" * 64)
    named = [Problem("a", "q", "s", 1)]
    warning = other_data_warning(store, data, named)
    assert warning is not None
    assert "was sampled for old.jsonl, which had other content" in warning
    assert other_data_warning(make_store(tmp_path / "silent", []), data, named) is None
    assert other_data_warning(GOLDEN / "votes", data, named) is None
