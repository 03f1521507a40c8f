"""sample.py --prompt icl on the miniature: from exemplars to a score."""

import json
from pathlib import Path

import pytest

from screl.core.alpaca import ALPACA_NO_INPUT
from screl.core.io import UserError
from screl.core.problems import load_problems
from screl.models.prompts import SHOTS, icl_template
from screl.samples.store import Sample, read_manifest, read_samples
from screl.sampling import run as sampling
from tests.conftest import MINI_MODEL, ROOT, run_script, write_lines
from tests.sampling.test_sample import lines_of, options, run_here

ICL = {"prompt": "icl", "n_shots": 2, "n_samples": 3, "max_new_tokens": 60}
LINES = (ROOT / "data/mini/test.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("data") / "test.jsonl", LINES[:3])


@pytest.fixture(scope="module")
def full(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 problems x 3 samples."""
    store = tmp_path_factory.mktemp("full") / "store"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(monkeypatch, options(MINI_MODEL, data, store, **ICL))
    return store


def samples_of(store: Path) -> list[Sample]:
    return sorted(read_samples(store), key=lambda sample: (sample.problem_id, sample.sample_id))


def test_the_manifest_has_the_whole_prompt(full: Path) -> None:
    template = icl_template(load_problems(SHOTS)[:2])
    assert template.count("Question: ") == 3
    expected = {
        "prompt": "icl", "n_shots": 2, "shots_seed": None, "shots_path": str(SHOTS),
        "stop": "Question:", "prompt_template": template,
    }  # fmt: skip
    assert expected.items() < read_manifest(full).items()


@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_completion_ends_where_the_stop_string_begins(
    full: Path, data: Path, tmp_path: Path, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the miniature does write, of several tokens, stands for what base models write."""
    stop = "How many"
    monkeypatch.setattr(sampling, "STOP", stop)
    argv = options(MINI_MODEL, data, tmp_path / "s", **ICL, batch_size=batch_size)
    run_here(monkeypatch, argv)
    lengths = set()
    for sample, whole in zip(samples_of(tmp_path / "s"), samples_of(full), strict=True):
        text, found, _ = whole.completion.partition(stop)
        assert sample.completion == text.strip()
        assert sample.finish_reason == ("stop" if found else whole.finish_reason)
        assert (sample.n_tokens < whole.n_tokens) == bool(found)
        lengths.add(sample.n_tokens if found else None)
    assert len(lengths) >= 4


def test_another_prompt_into_the_same_folder_is_refused_in_a_line_that_can_be_read(
    full: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = SHOTS.read_text().splitlines()
    other = write_lines(tmp_path / "shots.jsonl", [rows[1], rows[0]])
    icl = r"'Question: A ropewalk twists 14'\.\.\. \(SHA-256 [0-9a-f]{8}\.\.\.\)"
    other_icl = icl.replace("'Question: A ropewalk twists 14'", '"Question: Oda\'s beehives gave "')
    for changes, message in (
        ({"n_shots": 1}, rf"run \(n_shots was 2, now 1; prompt_template was {icl}, now {icl}\)"),
        ({"shots_path": other}, rf"\(prompt_template was {icl}, now {other_icl}\)"),
        ({"shots_seed": 3}, rf"\(prompt_template was {icl}, now .*; shots_seed was None, now 3\)"),
    ):
        with pytest.raises(UserError, match=message) as error:
            run_here(monkeypatch, options(MINI_MODEL, data, full, **ICL | changes))
        assert len(str(error.value)) - len(str(full)) < 300
    alpaca = {key: value for key, value in ICL.items() if key not in ("prompt", "n_shots")}
    message = r"prompt was 'icl', now 'alpaca'; prompt_template was .*, now 'Below is an instruct"
    with pytest.raises(UserError, match=message):
        run_here(monkeypatch, options(MINI_MODEL, data, full, **alpaca))
    same = write_lines(tmp_path / "same.jsonl", rows[:5])  # the same prompt from another file
    before = lines_of(full)
    run_here(monkeypatch, options(MINI_MODEL, data, full, **ICL, shots_path=same))
    assert lines_of(full) == before


def test_a_store_from_before_there_was_another_prompt_is_continued(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = tmp_path / "s", tmp_path / "s/manifest.json"
    run_here(monkeypatch, options(MINI_MODEL, data, store, n_samples=1))
    manifest = json.loads(file.read_text())
    assert manifest.pop("prompt") == "alpaca"
    assert manifest["prompt_template"] == ALPACA_NO_INPUT
    assert not {"n_shots", "shots_seed", "shots_path", "stop"} & manifest.keys()
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="prompt was 'alpaca', now 'icl'"):
        run_here(
            monkeypatch, options(MINI_MODEL, data, store, n_samples=1, prompt="icl", n_shots=1)
        )
    run_here(monkeypatch, options(MINI_MODEL, data, store, n_samples=1))
    assert json.loads(file.read_text()) == manifest | {"prompt": "alpaca"}
    run_here(monkeypatch, options(MINI_MODEL, data, store, n_samples=2))
    assert len(samples_of(store)) == 6


def test_dry_run_and_only(
    full: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_here(monkeypatch, options(MINI_MODEL, data, tmp_path / "s", **ICL, dry_run=True))
    shown = capsys.readouterr().out
    question = load_problems(data)[0].question
    assert f"#### 36\n\nQuestion: {question}\nAnswer:\n" in shown
    assert "a completion ends with 2 '</s>', before 'Question:', or after 60 tokens" in shown
    n_tokens = int(shown.split(" tokens, with BOS")[0].rsplit("\n", 1)[1])
    assert f"\n  ... {n_tokens - 16 - 128} more ...\n" in shown
    assert sum(line[:9].strip().isdecimal() for line in shown.splitlines()) == 16 + 128
    stored = samples_of(full)[4]
    only = f"{stored.problem_id}:{stored.sample_id}"
    run_here(monkeypatch, options(MINI_MODEL, data, full, **ICL, only=only))
    assert f"{stored.completion}\n{full} has the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_shots": 0}, "--n_shots must be at least 1"),
        ({"n_shots": 8}, r"test\.jsonl:1: the prompt has 2\d\d\d tokens; .* give fewer --n_shots"),
        ({"n_shots": 9}, r"icl/gsm8k\.jsonl: has 8 rows, too few for --n_shots 9"),
        ({"prompt": "alpaca"}, "--n_shots, --shots_path and --shots_seed need --prompt icl"),
        ({"prompt": "alpaca", "n_shots": 8, "shots_seed": 0}, "need --prompt icl"),
        ({"prompt": "alpaca", "n_shots": 8, "shots_path": SHOTS}, "need --prompt icl"),
        ({"shots_path": ROOT / "data/mini/test.jsonl"}, r"mini/test\.jsonl:1: this question is al"),
    ],
)
def test_contradictions_are_named(
    data: Path, tmp_path: Path, changes: dict[str, object], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with pytest.raises(UserError, match=message):
        run_here(monkeypatch, options(MINI_MODEL, data, tmp_path / "s", **ICL | changes))
    assert not (tmp_path / "s").exists()


def test_from_any_folder_to_a_score_and_to_training_rows(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exemplars drawn from the problems' own kind, some of which are asked."""
    shots = write_lines(tmp_path / "shots.jsonl", LINES[:8])
    stores = [tmp_path / f"s{seed}" for seed in (0, 1)]
    monkeypatch.chdir(tmp_path)
    for seed, store in enumerate(stores):
        few = ICL | {"n_samples": 1, "shots_path": shots, "shots_seed": seed, "max_new_tokens": 9}
        run_here(monkeypatch, options(MINI_MODEL, data, store, **few, greedy=True))
        template = read_manifest(store)["prompt_template"]
        assert not any(problem.question in template for problem in load_problems(data))
    assert len({read_manifest(store)["prompt_template"] for store in stores}) == 2
    # what it would write if it could: one right answer, one wrong one, one without an answer
    solution = load_problems(data)[0].solution
    for store in stores:
        rows = [json.loads(line) for line in lines_of(store)]
        for row, text in zip(rows, (solution, "#### 77777", "77777"), strict=True):
            row["completion"] = text
        write_lines(store / "samples-0.jsonl", [json.dumps(row) for row in rows])
    result = run_script("eval.py", *stores, "--seeds", "--data_path", data,
                        "--output_path", tmp_path / "m.json")  # fmt: skip
    assert result.returncode == 0, result.stderr
    (first, *_) = json.loads((tmp_path / "m.json").read_text())
    assert first["metrics"]["maj1@1"]["n_correct"] == 1
    assert "maj1@1  33.3" in result.stdout
    result = run_script("collect_rejection_sampling.py", "--data_path", data, "--samples",
                        stores[0], "--output_path", tmp_path / "rft.jsonl")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "rft.jsonl").read_text().splitlines()) == 3  # gold's own path is known
