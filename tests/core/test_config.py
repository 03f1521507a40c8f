"""Defaults < YAML < command line; every mistake is named."""

import dataclasses
import errno
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

import analyze
import collect_rejection_sampling
import eval as eval_script
import sample
import train
from screl.core.config import option, parse_config, run_main, show_config
from screl.core.io import UserError
from tests.conftest import ROOT


@dataclasses.dataclass(frozen=True)
class Example:
    path: Path = option("a path")
    rate: float = option("a rate", 2e-5)
    count: int = option("a count", 3)
    mode: Literal["a", "b"] = option("a mode", "a")
    flag: bool = option("a flag", False)
    limit: int | None = option("a limit", None)
    inputs: tuple[Path, ...] = option("inputs", ())
    checks: tuple[Literal["a", "b"], ...] = option("checks", ())


def parse(tmp_path: Path, yaml_text: str | None, *argv: str) -> Example:
    if yaml_text is None:
        return parse_config(Example, argv)
    config = tmp_path / "c.yaml"
    config.write_text(yaml_text)
    return parse_config(Example, ["--config", str(config), *argv])


def test_defaults_then_yaml_then_command_line(tmp_path: Path) -> None:
    assert parse(tmp_path, None, "--path", "p") == Example(path=Path("p"))
    config = parse(tmp_path, "path: q\nrate: 1e-3\ncount: 5\n", "--count", "7")
    assert config == Example(path=Path("q"), rate=1e-3, count=7)
    assert isinstance(config.rate, float)  # PyYAML reads 1e-3 as text


def test_tuples_optionals_and_flags(tmp_path: Path) -> None:
    config = parse(tmp_path, "path: p\nlimit: 4\n", "--inputs", "x", "y", "--flag")
    assert config.inputs == (Path("x"), Path("y"))
    assert config.limit == 4
    assert config.flag is True
    assert parse(tmp_path, "path: p\nlimit: null\ninputs: [z]\n").inputs == (Path("z"),)


def test_tuples_of_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(tmp_path, None, "--path", "p", "--checks", "b", "a").checks == ("b", "a")
    assert parse(tmp_path, "path: p\nchecks: [a]\n").checks == ("a",)
    with pytest.raises(UserError, match="checks: 'c' is not one of a, b"):
        parse(tmp_path, "path: p\nchecks: [c]\n")
    with pytest.raises(SystemExit):
        parse(tmp_path, None, "--path", "p", "--checks", "c")
    assert "invalid choice: 'c'" in capsys.readouterr().err


def test_a_flag_does_not_take_what_follows_it(tmp_path: Path) -> None:
    config = parse(tmp_path, None, "--flag", "--path", "p")
    assert (config.flag, config.path) == (True, Path("p"))
    argv = ["--allow_partial", "runs/a", "runs/b", "--dry_run", "true"]
    evaluated = parse_config(eval_script.EvalConfig, argv)
    assert evaluated.samples == (Path("runs/a"), Path("runs/b"))
    assert (evaluated.allow_partial, evaluated.dry_run) == (True, True)


def test_false_is_false(tmp_path: Path) -> None:
    assert parse(tmp_path, None, "--path", "p", "--flag", "false").flag is False
    assert parse(tmp_path, None, "--path", "p", "--flag=False").flag is False
    assert parse(tmp_path, "path: p\nflag: true\n", "--flag", "False").flag is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rat: 1\n", "unknown key 'rat'; did you mean 'rate'"),
        ("zzz: 1\n", "unknown key 'zzz'; known keys: path, rate"),
        ("count: 2.5\n", "count: 2.5 is not a whole number"),
        ("rate: fast\n", "rate: 'fast' is not a number"),
        ("mode: c\n", "mode: 'c' is not one of a, b"),
        ("flag: 1\n", "flag: 1 is not true or false"),
        ("count: true\n", "count: True is not a whole number"),
        ("- 1\n", "expected 'key: value' lines"),
        ("a: b: c\n", "not valid YAML"),
    ],
)
def test_a_bad_yaml_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse(tmp_path, text, "--path", "p")
    assert "c.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "argv", [[], ["--path", "p", "--rat", "1"], ["--path", "p", "--count", "x"],
             ["--path", "p", "--mode", "c"], ["--path", "p", "--flag", "maybe"]]
)  # fmt: skip
def test_a_bad_command_line_is_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_config(Example, argv)
    assert caught.value.code == 2


def test_a_user_error_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UserError("a.jsonl:3: broken\nmend it")

    with pytest.raises(SystemExit) as caught:
        run_main(fail)
    assert caught.value.code == "error: a.jsonl:3: broken mend it"  # a text means status 1


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    script = ROOT / "collect_rejection_sampling.py"
    golden = ROOT / "tests/data/golden"
    command = f"{sys.executable} {script} --explain 3 --data_path {golden}/problems.jsonl"
    result = subprocess.run(
        f"{command} --samples {golden}/model_a | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert len(result.stdout.splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "store/samples-0.jsonl")

    with pytest.raises(SystemExit, match=r"samples-0\.jsonl: No space left .*; finished work is"):
        run_main(fail)


SCRIPTS = {
    "train": train.TrainConfig,
    "sample": sample.SampleConfig,
    "collect": collect_rejection_sampling.CollectConfig,
    "eval": eval_script.EvalConfig,
    "cost": analyze.CostConfig,
    "paper": analyze.PaperConfig,
    "miniature": analyze.MiniatureConfig,
}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_is_understood(path: Path) -> None:
    config_class = SCRIPTS[path.parent.name]
    required = [
        field.name
        for field in dataclasses.fields(config_class)
        if field.default is dataclasses.MISSING
    ]
    argv = [part for name in required for part in (f"--{name}", "x")]
    defaults = parse_config(config_class, argv)
    loaded = parse_config(config_class, ["--config", str(path), *argv])
    assert loaded != defaults or path.read_text().strip() == ""
    assert show_config(loaded)


def test_the_published_recipe_is_the_default() -> None:
    """Paper A.1 and the published launchers (paper_facts 1.1)."""
    config = parse_config(
        train.TrainConfig, ["--model_name_or_path", "m", "--data_path", "d", "--output_dir", "o"]
    )
    assert (config.learning_rate, config.lr_scheduler_type, config.warmup_ratio) == (
        2e-5, "cosine", 0.03,
    )  # fmt: skip
    assert (config.weight_decay, config.num_train_epochs, config.global_batch_size) == (0, 3, 128)
    assert (config.max_length, config.precision) == (512, "bf16")
