"""data/prepare.py writes a dataset only if it is the published one; every failure is one line."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data import prepare
from data.asdiv import LeftOut, worked_solution
from data.sources import SOURCES, Edition, Source, number_under
from screl.core.io import UserError
from screl.core.problems import load_problems
from screl.grading.equations import equation_path
from screl.grading.verdict import JudgeRules, make_judge, require_golds

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
GSM8K = SHARED / "gsm8k"
ROWS = [
    {"query": "Tom’s 2 hens lay 3 eggs each?", "response": "2*3=<<2*3=6>>6\n#### 6"},
    {"query": "1+1?", "response": "<<1+1=2>>\n#### 2"},
]


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose splits are ROWS, with GSM8K's expected content changed to match."""
    edition = Edition(2, hashlib.sha256(jsonl(ROWS).encode()).hexdigest())
    splits = {
        name: replace(split, local=edition, hub=edition)
        for name, split in SOURCES["gsm8k"].splits.items()
    }
    monkeypatch.setitem(SOURCES, "gsm8k", replace(SOURCES["gsm8k"], splits=splits))
    folder = tmp_path / "source"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(jsonl(ROWS))
    return folder


def prepare_from(source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the script in this process and return its output folder."""
    output_dir = source.parent / "out"
    arguments = ["gsm8k", "--source", str(source), "--output_dir", str(output_dir)]
    monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
    prepare.main()
    return output_dir


def test_writes_both_files(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output_dir = prepare_from(source, monkeypatch)
    assert sorted(path.name for path in output_dir.iterdir()) == [
        "test_use.jsonl",
        "train_use.jsonl",
    ]
    assert (output_dir / "train_use.jsonl").read_bytes() == jsonl(ROWS).encode()
    assert (output_dir / "test_use.jsonl").read_bytes() == jsonl(ROWS).encode()


def test_hub_keys_other_keys_and_unescaped_text_give_the_same_bytes(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_rows = [{"answer": r["response"], "id": 7, "question": r["query"]} for r in ROWS]
    lines = [json.dumps(row, ensure_ascii=False) + "\n\n" for row in hub_rows]
    (source / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    output_dir = prepare_from(source, monkeypatch)
    assert (output_dir / "train_use.jsonl").read_bytes() == jsonl(ROWS).encode()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (jsonl(ROWS[:1]), r"test\.jsonl: expected 2 rows, found 1; nothing was written"),
        (jsonl(ROWS[::-1]), r"test\.jsonl: expected content with SHA-256 \w{64}, found \w{64}"),
        (
            jsonl([ROWS[0], {"query": "1+1?"}]),
            r"test\.jsonl:2: no text under 'response' or 'answer'",
        ),
        (
            jsonl([{"query": 1, "response": ""}]),
            r"test\.jsonl:1: no text under 'query' or 'question'",
        ),
        (jsonl(ROWS)[:-5], r"test\.jsonl:2: not valid JSON"),
        ("", r"test\.jsonl: the file is empty"),
        (None, r"test\.jsonl: no such file"),
    ],
)
def test_a_wrong_source_is_named_and_nothing_is_written(
    source: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, fault: str
) -> None:
    path = source / "test.jsonl"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=fault) as caught:
        prepare_from(source, monkeypatch)
    assert "\n" not in str(caught.value)
    assert not (source.parent / "out").exists()


def test_existing_files_are_kept(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = prepare_from(source, monkeypatch)
    before = (output_dir / "train_use.jsonl").stat().st_mtime_ns
    (source / "train.jsonl").unlink()  # it is not read again
    prepare_from(source, monkeypatch)
    assert "already prepared" in capsys.readouterr().out
    assert (output_dir / "train_use.jsonl").stat().st_mtime_ns == before


def test_other_content_is_not_overwritten(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output_dir = prepare_from(source, monkeypatch)
    (output_dir / "test_use.jsonl").write_text("my own\n")
    with pytest.raises(UserError, match=r"test_use\.jsonl: exists with different content"):
        prepare_from(source, monkeypatch)
    assert (output_dir / "test_use.jsonl").read_text() == "my own\n"


def test_a_missing_file_is_added(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output_dir = prepare_from(source, monkeypatch)
    (output_dir / "test_use.jsonl").unlink()
    prepare_from(source, monkeypatch)
    assert (output_dir / "test_use.jsonl").read_text() == jsonl(ROWS)


def test_the_downloaded_rows_are_renamed_and_checked(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    rows = [{"question": row["query"], "answer": row["response"]} for row in ROWS]
    hub = {("openai/gsm8k", "main"): {"train": rows, "test": rows}}
    monkeypatch.setattr(datasets, "load_dataset", lambda *name: hub[name])
    prepared = prepare.download(SOURCES["gsm8k"])
    assert {name: split.text for name, split in prepared.items()} == {
        "train": jsonl(ROWS),
        "test": jsonl(ROWS),
    }
    rows.pop()
    with pytest.raises(UserError, match=r"openai/gsm8k train: expected 2 rows, found 1"):
        prepare.download(SOURCES["gsm8k"])


def test_without_a_network_one_line_says_how_to_continue(tmp_path: Path) -> None:
    # As a subprocess from another folder, to check that the script finds the package.
    result = subprocess.run(
        [sys.executable, ROOT / "data" / "prepare.py", "gsm8k", "--output_dir", tmp_path / "out"],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    progress, error = result.stderr.splitlines()
    assert result.returncode == 1
    assert progress == "downloading openai/gsm8k (config main)"
    assert error.startswith("error: openai/gsm8k could not be downloaded")
    assert "--source DIR" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not GSM8K.is_dir(), reason="needs the real GSM8K in ../shared/gsm8k")
def test_the_real_gsm8k_passes_and_one_changed_letter_does_not(tmp_path: Path) -> None:
    gsm8k = SOURCES["gsm8k"]
    prepared = prepare.read_source(gsm8k, GSM8K)
    assert prepared["test"].text.count("\n") == 1319
    (tmp_path / "train.jsonl").write_text(prepared["train"].text.replace("Natalia", "Natalie", 1))
    with pytest.raises(UserError, match=r"train\.jsonl: expected content with SHA-256"):
        prepare.read_source(gsm8k, tmp_path)


LOCAL = {
    "math": ("math", "math_test.jsonl", 5000),
    "svamp": ("out_of_domain", "svamp.jsonl", 1000),
    "asdiv": ("out_of_domain", "asdiv.jsonl", 2086),
    "asdiv --solutions": ("out_of_domain/asdiv.jsonl", "asdiv_solutions.jsonl", 1755),
    "mawps": ("out_of_domain", "mawps.jsonl", 2065),
    "gsm_hard": ("out_of_domain", "gsm_hard.jsonl", 1319),
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real datasets in ../shared")
@pytest.mark.parametrize("arguments", LOCAL)
def test_the_real_files_become_problems_that_can_be_graded(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    source, output, n = LOCAL[arguments]
    words = [*arguments.split(), "--source", str(SHARED / source), "--output_dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["prepare.py", *words])
    prepare.main()
    assert f"{output}: {n:,} problems, SHA-256" in capsys.readouterr().out
    path = tmp_path / output
    problems = load_problems(path)
    assert len(problems) == n
    assert all(problem.answer for problem in problems)
    if not arguments.startswith("math"):  # its answers are formulas
        require_golds(problems, path, JudgeRules())


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real datasets in ../shared")
def test_asdivs_worked_solutions_pass_the_filter_and_have_a_path(tmp_path: Path) -> None:
    file = SHARED / "out_of_domain" / "asdiv.jsonl"
    split = prepare.read_source(SOURCES["asdiv_solutions"], file)["test"]
    assert split.left_out.total() == 2215 - 1755
    path = tmp_path / "solutions.jsonl"
    path.write_text(split.text)
    for problem in load_problems(path, needs_solution=True):
        verdict = make_judge(problem, JudgeRules())(problem.solution)
        assert verdict.reason == "valid", problem
        assert verdict.path


@pytest.mark.parametrize(
    ("formula", "answer", "equations"),
    [
        ("18+20+17=55", "55 (muffins)", "18+20=38|38+17=55"),
        ("(34.26/3)*2=22.84", "22.84 (dollars)", "34.26/3=11.42|11.42*2=22.84"),
        ("10/3*6=20", "20", "(10/3)*6=20"),  # 10/3 has no short decimal
        ("47/6=7 r5", "5 (cookies)", "7*6=42|47-42=5"),
        ("47/6=7 r5", "7 (boxes)", "47-5=42|42/6=7"),
        ("47/6=7 r5", "8 (boxes)", "47-5=42|42/6=7|7+1=8"),
        ("250/12=20 r10; 12-10=2", "2", "20*12=240|250-240=10|12-10=2"),
        ("6 (penny)*1 (cent/penny) + 3 (nickel)*5 (cent/nickel) = 21 (cent)", "21 (cents)",
         "6*1=6|3*5=15|6+15=21"),
        ("3-5=-2; (-2)+7=5", "5", "3-5=-2|(-2)+7=5"),
    ],
)  # fmt: skip
def test_a_formula_becomes_one_step_an_operation(formula: str, answer: str, equations: str) -> None:
    assert equation_path(worked_solution(formula, answer)) == equations


@pytest.mark.parametrize(
    ("formula", "answer", "reason"),
    [
        ("GCD(16,12)=4", "4", "a common divisor"),
        ("15:18=5:6", "5", "a ratio"),
        ("x:The number; x+15=96", "81", "words or an unknown"),
        ("8, 16, 24", "24", "a sequence"),
        ("64^(1/2)=8", "8", "a power"),
        ("10/3=3.333", "3.333", "rounds"),
        ("40/7=5 r5", "5", "either may be asked"),
        ("3+4=7", "8", "does not end in the answer"),
        ("5=5", "5", "no operation"),
        ("1/0=1", "1", "cannot be computed"),
        ("3(4)=12", "12", "cannot be computed"),
        ("9+=9", "9", "cannot be computed"),
        ("7/0=1 r7", "7", "cannot be computed"),
    ],
)
def test_a_formula_without_steps_is_left_out_with_its_reason(
    formula: str, answer: str, reason: str
) -> None:
    with pytest.raises(LeftOut, match=reason):
        worked_solution(formula, answer)


def test_rows_of_each_source_become_problems() -> None:
    platinum = {"question": "1+1?", "answer": "<<1+1=2>>\n#### 2", "cleaning_status": "verified"}
    assert convert("gsm8k_platinum", platinum) == {
        "query": "1+1?", "response": "<<1+1=2>>\n#### 2", "answer": "2",
    }  # fmt: skip
    assert convert("gsm8k_platinum", {"question": "1+1?", "answer": "#### 2"}) == {
        "query": "1+1?", "answer": "2",
    }  # fmt: skip
    row = {"problem": "1+1?", "solution": r"$\boxed{2}$", "answer": "2", "subject": "Algebra",
           "level": 1, "unique_id": "test/algebra/1.json"}  # fmt: skip
    assert convert("math500", row) == {
        "query": "1+1?", "response": r"$\boxed{2}$", "answer": "2",
        "problem_id": "test/algebra/1.json", "level": 1, "type": "Algebra",
    }  # fmt: skip
    hub_svamp = {"Body": "Tom has 3 hens", "Question": "How many?", "Answer": "3.0", "ID": "chal-1"}
    assert convert("svamp", hub_svamp)["query"] == "Tom has 3 hens. How many?"
    assert convert("svamp", hub_svamp)["answer"] == "3"
    with pytest.raises(UserError, match="no text under 'Body'"):
        convert("svamp", {"body": "x"})


@pytest.mark.parametrize(
    ("value", "text"),
    [(3244047.0999999996, "3244047.1"), (-9867630.0, "-9867630"),
     (9284017268534.4, "9284017268534.4"), (0.0016791648, "0.0016791648"), ("145.0", "145"),
     (100, "100"), (1e-7, "0.0000001")],
)  # fmt: skip
def test_a_number_is_written_without_exponent_and_noise(value: object, text: str) -> None:
    assert number_under("target", {"target": value}) == text


def test_where_no_hash_is_known_the_rows_are_counted_and_the_hash_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rows = [{"question": f"{i}+1?", "answer": f"#### {i + 1}"} for i in range(1209)]
    (tmp_path / "test.jsonl").write_text(jsonl(rows))
    words = ["gsm8k_platinum", "--source", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["prepare.py", *words])
    prepare.main()
    assert "(not compared: only the number of rows is known)" in capsys.readouterr().out
    prepare.main()  # the same again is not an error
    (tmp_path / "out" / "gsm8k_platinum.jsonl").write_text("my own\n")
    with pytest.raises(UserError, match="exists with different content"):
        prepare.main()
    (tmp_path / "test.jsonl").write_text(jsonl(rows[1:]))
    with pytest.raises(UserError, match="expected 1,209 rows, found 1,208"):
        prepare.main()


def test_mawps_needs_a_source_and_only_asdiv_has_solutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["prepare.py", "mawps", "--output_dir", str(tmp_path)])
    with pytest.raises(UserError, match=r"give --source with mawps\.jsonl"):
        prepare.main()
    monkeypatch.setattr(sys, "argv", ["prepare.py", "svamp", "--solutions"])
    with pytest.raises(SystemExit, match="2"):
        prepare.main()
    assert "only asdiv has formulas" in capsys.readouterr().err


def convert(dataset: str, row: dict[str, Any]) -> dict[str, Any]:
    source: Source = SOURCES[dataset]
    return source.convert(row, 0)
