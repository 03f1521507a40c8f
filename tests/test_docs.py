"""Check the documentation: its size, its links and paths, and every command in it.

Commands are parsed with the real options of each script, launchers are asked what they would run,
and commands that need nothing but the repository are run and compared with the output shown.
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

# Where each script's options and rules are: adapt these lines when a module moves.
import collect_rejection_sampling
import eval as eval_script
from data.get_model import GetModelConfig
from data.prepare import PrepareConfig
from data.subset import SubsetConfig
from screl.analysis.config import CostConfig, MiniatureConfig, PaperConfig
from screl.core.config import parse_config
from screl.core.io import UserError
from screl.core.layouts import (
    ANSWER_KEYS,
    CHAT_KEYS,
    CONTEXT_KEYS,
    QUESTION_KEYS,
    SOLUTION_KEYS,
)
from screl.core.problems import ALPACA_NO_INPUT, load_problems
from screl.grading.verdict import JudgeRules, gold_answer
from screl.rejection.config import CollectConfig
from screl.samples.joining import ID_KEYS
from screl.samples.joining import QUESTION_KEYS as SAMPLE_QUESTION_KEYS
from screl.samples.jsonl import TEXT_KEYS
from screl.sampling.config import SampleConfig
from screl.scoring.config import EvalConfig
from screl.training.config import DoctorConfig, TrainConfig
from tests.conftest import ROOT

OPTIONS: dict[str, type] = {
    "train.py": TrainConfig,
    "train.py --doctor": DoctorConfig,
    "sample.py": SampleConfig,
    "collect_rejection_sampling.py": CollectConfig,
    "eval.py": EvalConfig,
    "analyze.py paper": PaperConfig,
    "analyze.py miniature": MiniatureConfig,
    "analyze.py cost": CostConfig,
    "data/prepare.py": PrepareConfig,
    "data/get_model.py": GetModelConfig,
    "data/subset.py": SubsetConfig,
}
MAIN = {
    "collect_rejection_sampling.py": collect_rejection_sampling.main,
    "eval.py": eval_script.main,
}
# what "…" stands for
REQUIRED = ["--model_name_or_path", "M", "--data_path", "D", "--output_dir", "O"]
OTHER_PROGRAMS = {"head", "pip", "python3", "sha256sum"}  # not ours; not checked
LAUNCHERS = re.compile(r"scripts/(train|group_sample|greedy_test|icl_test|(single_)?test_).*")

FOLDERS = ("benchmarks", "configs", "data", "docs", "examples", "results", "screl", "scripts",
           "tests")  # fmt: skip
GENERATED = tuple(
    line.strip("/") for line in (ROOT / ".gitignore").read_text().split() if "*" not in line
)
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/*.md")),
    *sorted(ROOT.glob("data/**/README.md")),
    ROOT / "results/smollm2_gsm8k.md",
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def blocks_and_prose(page: Path) -> tuple[list[tuple[str, str]], str]:
    """Return the fenced blocks, as (language, text), and the text without them."""
    text = page.read_text(encoding="utf-8")
    return FENCE.findall(text), FENCE.sub("", text)


def commands_of(page: Path) -> Iterator[str]:
    """Yield the commands in bash and console blocks and in inline code."""
    blocks, prose = blocks_and_prose(page)
    for language, text in blocks:
        if language == "bash":
            yield from filter(None, text.splitlines())
        elif language == "console":
            yield from re.findall(r"^\$ (.*)", text, re.MULTILINE)
    for code in CODE.findall(prose):
        if re.match(r"(\w+=\S+ )*(python|bash|sbatch) [\w/]+\.(py|sh|sbatch)\b", code):
            yield re.sub(r"\[[^]]*\]", "", " ".join(code.split()))  # [SAMPLES2 …]


COMMANDS = sorted({(name_of(page), command) for page in PAGES for command in commands_of(page)})
SHOWN = [
    (name_of(page), *text.removeprefix("$ ").split("\n", 1))
    for page in PAGES
    for language, text in blocks_and_prose(page)[0]
    if language == "console"
]


def check_command(words: list[str]) -> None:
    """Raise AssertionError, UserError, or SystemExit if this command cannot be right."""
    settings = {}
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        key, _, settings[key] = words.pop(0).partition("=")
    program, *words = words
    if program == "python":
        check_python(words)
    elif program == "bash":
        check_bash(words, settings)
    elif program == "sbatch":
        assert words[0] == "--nodes"
        check_job(words[2], words[3:], n_nodes=words[1])
    else:
        assert program in OTHER_PROGRAMS, f"{program} is not a program of this project"


def check_python(words: list[str]) -> None:
    script, *arguments = [part for word in words for part in (REQUIRED if word == "…" else [word])]
    assert (ROOT / script).is_file(), f"{script} does not exist"
    if script == "analyze.py":
        script = f"{script} {arguments.pop(0)}"
    if "--doctor" in arguments:
        script += " --doctor"
    if script in OPTIONS:
        if arguments != ["--help"]:
            parse_config(OPTIONS[script], arguments)
    else:
        check_options(script, arguments)


def check_bash(words: list[str], settings: dict[str, str]) -> None:
    script, *arguments = words
    assert (ROOT / script).is_file(), f"{script} does not exist"
    is_launcher = script != "scripts/test.sh" and LAUNCHERS.fullmatch(script)
    # other scripts read their arguments, then prepare .venv, where this setting stops them
    stop = {"LAUNCHER": "echo"} if is_launcher else {"PYTHON_ENV": "none"}
    clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    result = subprocess.run(
        ["bash", script, *arguments],
        cwd=ROOT, env=clean | settings | stop, capture_output=True, text=True,
    )  # fmt: skip
    if is_launcher:
        assert (result.returncode, result.stderr) == (0, "")
        _, script, options = re.split(rf"{re.escape(str(ROOT))}/(train|sample)\.py ", result.stdout)
        check_python([f"{script}.py", *options.split()])
    else:
        assert "PYTHON_ENV must be" in result.stderr, result.stderr
        check_options(script, [word for word in arguments if not word.startswith("--")])


def check_job(script: str, arguments: list[str], n_nodes: str) -> None:
    """Check a Slurm job by the launcher that it runs on each machine."""
    assert (ROOT / script).is_file(), f"{script} does not exist"
    settings = {"NNODES": n_nodes, "NODE_RANK": "0", "MASTER_ADDR": "node0"}
    if script == "scripts/slurm/sample.sbatch":
        ray = ["--launcher", "ray", "--address", "node0:6379"]
        check_bash(["scripts/group_sample.sh", *arguments, *ray], settings)
    else:
        assert script == "scripts/slurm/train.sbatch"
        check_bash(["scripts/train.sh", *arguments], settings)


def check_options(script: str, arguments: list[str]) -> None:
    """Check that a script with a parser of its own has these options, and that files exist."""
    source = (ROOT / script).read_text(encoding="utf-8")
    for word in arguments:
        if word.startswith("--"):
            named = rf"{word}(?![\w-])|^    {word[2:]}: "  # or a field of its options
            assert re.search(named, source, re.MULTILINE), f"{script} has no {word}"
        elif "/" in word and not word.startswith(GENERATED):
            assert (ROOT / word).exists(), f"{word} does not exist"


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_is_understood(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    try:
        check_command(shlex.split(command, comments=True))
    except (UserError, SystemExit) as error:
        pytest.fail(f"{page}: {command}: {error}")


def test_commands_are_found() -> None:
    """A change of the Markdown must not hide them."""
    scripts = {command.split()[1] for _, command in COMMANDS if command.startswith("python ")}
    assert scripts >= {"train.py", "sample.py", "collect_rejection_sampling.py", "eval.py"}
    assert len(COMMANDS) > 50


@pytest.mark.parametrize(("page", "command", "output"), SHOWN)
def test_a_command_prints_what_is_shown(
    page: str, command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A line of three dots stands for any lines."""
    _, script, *arguments = shlex.split(command)
    if any(word.startswith("runs/") for word in arguments):
        pytest.skip("needs the quickstart's runs")
    if "--output_path" in arguments:
        place = arguments.index("--output_path") + 1
        arguments[place] = str(tmp_path / arguments[place])
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", [script, *arguments])
    MAIN[script]()
    printed = capsys.readouterr().out.rstrip("\n") + "\n"
    parts = [r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n"
             for line in output.rstrip("\n").split("\n")]  # fmt: skip
    assert re.fullmatch("".join(parts), printed), f"{page}: {command} printed:\n{printed}"


def test_the_readme_fits_on_two_screens() -> None:
    assert (ROOT / "README.md").stat().st_size <= 15_000


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(blocks_and_prose(page)[1]):
        if target.startswith(("http://", "https://")):
            continue
        path = page.parent / target if target else page
        assert path.exists(), f"{target} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.*)", FENCE.sub("", path.read_text()), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
            assert anchor in slugs, f"{target} has no heading #{anchor}"


def is_there(name: str, page: Path) -> bool:
    """Whether a path, a pattern, or the bare name of a program of this repository exists."""
    if name.startswith(GENERATED) or (page.parent / name).exists() or any(ROOT.glob(name)):
        return True
    is_bare = "/" not in name
    return is_bare and any(True for folder in FOLDERS for _ in (ROOT / folder).rglob(name))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_exist(page: Path) -> None:
    for code in CODE.findall(blocks_and_prose(page)[1]):
        for word in code.split():
            name = word.rstrip("/")
            is_path = re.fullmatch(r"[\w./*-]+", name) and name.split("/")[0] in FOLDERS
            is_program = re.fullmatch(r"[\w*-]+\.(py|sh|sbatch|md|cff)", name)
            if is_path or is_program:
                assert is_there(name, page), f"{name} does not exist"


def test_the_map_shows_every_folder() -> None:
    (block,) = [text for _, text in blocks_and_prose(ROOT / "README.md")[0] if "screl/core" in text]
    *parts, others = block.splitlines()
    folders = {name_of(path) for path in (ROOT / "screl").glob("[!_]*/")}
    assert {part.split()[0] for part in parts} == folders
    assert {*others.split(), "screl"} == set(FOLDERS)


def test_the_prompt_and_the_keys_are_those_of_the_code() -> None:
    readme, scorer = (ROOT / page for page in ("README.md", "docs/scorer.md"))
    blocks, _ = blocks_and_prose(readme)
    assert ("", ALPACA_NO_INPUT + "\n") in blocks
    keys = CODE.findall(blocks_and_prose(ROOT / "docs/training.md")[1].partition("## Data")[2])
    assert {*QUESTION_KEYS, *SOLUTION_KEYS, *ANSWER_KEYS, *CHAT_KEYS, *CONTEXT_KEYS} <= set(keys)
    listed = CODE.findall(blocks_and_prose(scorer)[1].partition("## Input")[2])
    assert {*TEXT_KEYS, *ID_KEYS, *SAMPLE_QUESTION_KEYS} <= set(listed)


def test_the_example_row_is_understood(tmp_path: Path) -> None:
    (row,) = [
        text for language, text in blocks_and_prose(ROOT / "README.md")[0] if language == "json"
    ]
    path = tmp_path / "row.jsonl"
    path.write_text(json.dumps(json.loads(row)) + "\n")
    assert [gold_answer(p, JudgeRules()) for p in load_problems(path)] == [12]


def test_the_picture_and_the_table_show_what_was_printed() -> None:
    """The quickstart's numbers stand in docs/results.md; README and figure repeat some of them."""
    printed = blocks_and_prose(ROOT / "docs/results.md")[0][0][1]
    picture = (ROOT / "results/quickstart.svg").read_text()
    table = (ROOT / "README.md").read_text()
    rows = dict(re.findall(r"^(\w+) +.*?  (\d+\.\d (?:± \d\.\d|\[.*?\]))", printed, re.MULTILINE))
    assert len(rows) == 6
    for model, label in {
        "base": "base",
        "sft": "SFT",
        "rft_k4": "RFT, k=4",
        "rft_k16": "RFT, k=16",
    }.items():
        assert re.search(
            rf"^\| {label} \| [\d,-]+ \| {re.escape(rows[model])} \|", table, re.MULTILINE
        )
    for score in rows.values():
        assert f">{score.split()[0]}</text>" in picture
