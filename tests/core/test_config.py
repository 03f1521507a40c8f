"""Options come from defaults < YAML < command line, and every mistake is one line."""

import dataclasses
import errno
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

import analyze
import collect_rejection_sampling
import eval as eval_script
import sample
import train
from screl.core.config import option, parse_config, plain_config, run_main, show_config
from screl.core.io import UserError
from tests.conftest import ROOT

SCRIPTS = {
    "train": train.TrainConfig,
    "sample": sample.SampleConfig,
    "collect": collect_rejection_sampling.CollectConfig,
    "eval": eval_script.EvalConfig,
    "cost": analyze.CostConfig,
    "paper": analyze.PaperConfig,
    "miniature": analyze.MiniatureConfig,
}


@dataclasses.dataclass(frozen=True)
class Options:
    path: Path = option("a path")
    rate: float = option("a rate of up to 100%", 2e-5)
    count: int = option("a count", 3)
    mode: Literal["a", "b"] = option("a mode", "a")
    flag: bool = option("a flag", False)
    limit: int | None = option("a limit", None)
    note: str | None = option("a note", "none yet")
    name: str = option("a name", "x")
    inputs: tuple[Path, ...] = option("inputs", ())
    checks: tuple[Literal["a", "b"], ...] = option("checks", ("a",))


@dataclasses.dataclass(frozen=True)
class Stores:
    stores: tuple[Path, ...] = option("stores", (), positional=True)
    partial: bool = option("accept unfinished stores", False)
    final: bool = option("this is the last call", True)


@dataclasses.dataclass(frozen=True)
class Runs:
    runs: tuple[Path, ...] = option("runs", positional=True)
    count: int = option("a count", 0)


@dataclasses.dataclass(frozen=True)
class Dataset:
    dataset: Literal["gsm8k", "math"] = option("a dataset", positional=True)


P = Path("p")


def parse(*argv: str) -> Options:
    return parse_config(Options, ["--path", "p", *argv])


def parse_yaml(tmp_path: Path, text: str, *argv: str, config_class: type = Options) -> Any:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    return parse_config(config_class, ["--config", str(file), *argv])


def test_defaults_then_yaml_then_command_line(tmp_path: Path) -> None:
    assert parse() == Options(path=P)
    config = parse_yaml(tmp_path, "path: q\nrate: 1e-3\ncount: 5\n", "--count", "7")
    assert config == Options(path=Path("q"), rate=1e-3, count=7)


def test_the_command_line_wins_wherever_config_stands(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("count: 5\nrate: 1\n")
    config = parse("--count", "7", f"--config={tmp_path / 'c.yaml'}")
    assert (config.count, config.rate) == (7, 1)


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_an_empty_yaml_file_changes_nothing(tmp_path: Path, text: str) -> None:
    assert parse_yaml(tmp_path, text, "--path", "p") == Options(path=P)


def test_a_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse().count = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("yaml_text", "argv", "field", "value"),
    [
        ("rate: 2e-5", ["--rate", "2e-5"], "rate", 2e-5),  # PyYAML reads 2e-5 as text
        ("rate: 2", ["--rate", "2"], "rate", 2.0),
        ("count: -4", ["--count", "-4"], "count", -4),
        ("mode: b", ["--mode", "b"], "mode", "b"),
        ("limit: 4", ["--limit", "4"], "limit", 4),
        ("note: hi", ["--note=hi"], "note", "hi"),
        ("note: '# 1'", ["--note", "# 1"], "note", "# 1"),
        ("name: 7", ["--name", "7"], "name", "7"),
        ("name: 'a: b'", ["--name", "a: b"], "name", "a: b"),
        ("name: a=b", ["--name=a=b"], "name", "a=b"),
        ("name: flag", ["--name", "flag"], "name", "flag"),
        ("path: 12", ["--path", "12"], "path", Path("12")),
        ("flag: true", ["--flag"], "flag", True),
        ("flag: True", ["--flag", "TRUE"], "flag", True),
        ("flag: false", ["--flag", "false"], "flag", False),
        ("inputs: [x, y]", ["--inputs", "x", "y"], "inputs", (Path("x"), Path("y"))),
        ("inputs: x", ["--inputs", "x"], "inputs", (Path("x"),)),
        ("inputs: []", ["--inputs"], "inputs", ()),
        ("checks: [b, a]", ["--checks", "b", "a"], "checks", ("b", "a")),
    ],
)
def test_yaml_and_command_line_agree_on_values(
    tmp_path: Path, yaml_text: str, argv: list[str], field: str, value: object
) -> None:
    required = "" if field == "path" else "path: p\n"
    for config in (parse_yaml(tmp_path, f"{required}{yaml_text}\n"), parse(*argv)):
        assert getattr(config, field) == value
        assert type(getattr(config, field)) is type(value)


@pytest.mark.parametrize("null", ["null", "Null", "NULL", "~", ""])
def test_null_in_yaml_is_none_for_an_optional_field(tmp_path: Path, null: str) -> None:
    assert parse_yaml(tmp_path, f"path: p\nnote: {null}\n").note is None


def test_a_yaml_file_of_null_is_empty(tmp_path: Path) -> None:
    assert parse_yaml(tmp_path, "null\n", "--path", "p") == Options(path=P)


def test_a_flag_is_set_by_its_name_or_a_value(tmp_path: Path) -> None:
    assert parse("--flag").flag is True
    assert parse_config(Options, ["--flag", "--path", "p"]) == Options(path=P, flag=True)
    assert parse("--flag=true").flag is True
    assert parse("--flag=False").flag is False
    assert parse_yaml(tmp_path, "path: p\nflag: true\n", "--flag", "false").flag is False


def test_a_flag_leaves_the_positional_argument_after_it_alone() -> None:
    config = parse_config(Stores, ["--partial", "a", "b", "--final", "false"])
    assert config == Stores((Path("a"), Path("b")), partial=True, final=False)
    argv = ["--allow_partial", "runs/a", "runs/b", "--dry_run", "true"]
    evaluated = parse_config(eval_script.EvalConfig, argv)
    assert evaluated.samples == (Path("runs/a"), Path("runs/b"))
    assert (evaluated.allow_partial, evaluated.dry_run) == (True, True)


def test_positional_arguments(tmp_path: Path) -> None:
    assert parse_config(Stores, []) == Stores()
    assert parse_config(Runs, ["a", "--count", "3"]) == Runs((Path("a"),), 3)
    assert parse_config(Dataset, ["math"]) == Dataset("math")
    yaml_text = "stores: [a]\n"
    assert parse_yaml(tmp_path, yaml_text, config_class=Stores) == Stores((Path("a"),))
    assert parse_yaml(tmp_path, yaml_text, "b", config_class=Stores) == Stores((Path("b"),))
    assert parse_yaml(tmp_path, "count: 3\n", "a", config_class=Runs) == Runs((Path("a"),), 3)
    assert parse_yaml(tmp_path, "runs: [a]\n", config_class=Runs) == Runs((Path("a"),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rat: 1\n", "unknown key 'rat'; did you mean 'rate'?"),
        ("zzz: 1\n", "unknown key 'zzz'; known keys: path, rate, count"),
        ("1: 2\n", "unknown key '1'; known keys: path"),
        ("config: other.yaml\n", "unknown key 'config'; known keys: path"),
        ("count: 2.5\n", "count: expected int, got 2.5"),
        ("count: true\n", "count: expected int, got true"),
        ("count: null\n", "count: expected a value, got null"),
        ("count: [1, 2]\n", "count: expected one value"),
        ("limit: 1.5\n", "limit: expected int, got 1.5"),
        ("rate: fast\n", "rate: expected float, got fast"),
        ("rate: true\n", "rate: expected float, got true"),
        ("mode: c\n", "mode: expected one of 'a', 'b', got c"),
        ("checks: [a, c]\n", "checks element 2: expected one of 'a', 'b', got c"),
        ("flag: 1\n", "flag: expected bool, got 1"),
        ("name: {a: 1}\n", "name: expected one value"),
        ("checks: {a: 1}\n", "checks: expected a list"),
        ("count: 3:2\n", "count: expected int, got 3:2"),
        ("flag: yes\n", "flag: expected bool, got yes"),
        ("[]\n", "expected 'key: value' lines"),
        ("- 1\n", "expected 'key: value' lines"),
        ("a: b: c\n", "not valid YAML"),
        ("name: \xff\n", "not valid YAML"),
    ],
)
def test_a_bad_yaml_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as caught:
        parse("--config", str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_yaml_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with pytest.raises(SystemExit, match=f"^error: {file}: .*; check the path") as caught:
        run_main(lambda: print(parse("--config", str(file))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rat", "1"], "--rat"),  # a misspelling, and no abbreviation either
        (["--zzz=1"], "--zzz=1"),
        (["--no_flag"], "--no_flag"),
        (["extra"], "extra"),
        (["--count", "x"], "count: expected int, got x"),
        (["--count=2.5"], "count: expected int, got 2.5"),
        (["--count", "3:2"], "count: expected int, got 3:2"),
        (["--count", "0x10"], "count: expected int, got 0x10"),
        (["--flag=yes"], "flag: expected bool, got yes"),
        (["--limit", "x"], "limit: expected int, got x"),
        (["--rate", "fast"], "rate: expected float, got fast"),
        (["--mode", "c"], "mode: expected one of 'a', 'b', got c"),
        (["--checks", "c"], "expected one of 'a', 'b', got c"),
        (["--checks"], "--checks"),
        (["--flag", "maybe"], "maybe"),
        (["--flag=maybe"], "flag: expected bool, got maybe"),
        (["--name"], "--name"),
        (["--config"], "--config"),
    ],
)
def test_a_bad_command_line_is_one_line_and_status_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of(Options, ["--path", "p", *argv], capsys)


@pytest.mark.parametrize(
    ("config_class", "argv", "message"),
    [
        (Options, [], "required: path;"),
        (Runs, [], "required: runs;"),
        (Dataset, [], "required: dataset;"),
        (Dataset, ["gsm9k"], "expected one of 'gsm8k', 'math', got gsm9k"),
    ],
)
def test_a_missing_or_wrong_required_option_is_status_2(
    config_class: type, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of(config_class, argv, capsys)


def error_of(config_class: type, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on stderr of a command line that is refused."""
    with pytest.raises(SystemExit) as caught:
        parse_config(config_class, argv, prog="script.py")
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("; see script.py --help\n")
    assert err.count("\n") == 1
    return err


def test_help_shows_the_doc_and_every_option_with_its_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    doc = "Do a thing.\n\n    python script.py --path P\n    python script.py --path Q\n"
    with pytest.raises(SystemExit) as caught:
        parse_config(Options, ["--help"], doc, prog="script.py part")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: script.py part ")
    assert doc in out  # its lines are not refilled
    assert "--config FILE.yaml" in out
    for field in dataclasses.fields(Options):
        assert f"--{field.name} " in out
        assert field.metadata["help"] in out
    assert "a path (required)" in out
    assert "up to 100% (default: 2e-05)" in out
    assert "--mode {a,b}" in out
    assert "--flag [true|false]" in out


def test_help_also_shows_the_options_of_another_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_config(Options, ["--help"], instead=train.DoctorConfig)
    assert "--doctor DOCTOR" in capsys.readouterr().out
    assert parse_config(Options, ["--path=p"], instead=train.DoctorConfig) == Options(Path("p"))


HELP = """
import resource, runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as exit:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    loaded = {"torch", "transformers", "vllm", "ray"} & sys.modules.keys()
    print(exit.code, sorted(loaded), spent.ru_utime + spent.ru_stime)
"""


@pytest.mark.parametrize(
    "script", ["train.py", "sample.py", "collect_rejection_sampling.py", "eval.py",
               "data/prepare.py", "data/subset.py"]
)  # fmt: skip
def test_help_takes_under_a_second_and_loads_nothing_heavy(script: str) -> None:
    """Processor seconds, which other work on the machine hardly changes."""
    command = [sys.executable, "-c", HELP, str(ROOT / script)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    status, loaded, seconds = result.stdout.splitlines()[-1].split()
    assert (status, loaded) == ("0", "[]")
    assert float(seconds) < 1


def test_a_user_error_is_one_line_and_status_1() -> None:
    def fail() -> None:
        raise UserError("a  b.jsonl:3: broken\nfix it")

    with pytest.raises(SystemExit) as caught:
        run_main(fail)
    assert caught.value.code == "error: a  b.jsonl:3: broken fix it"  # text means status 1


@pytest.mark.parametrize("connected", [False, True])
def test_only_the_first_process_of_a_machine_reports_until_all_are_connected(
    monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    def fail() -> None:
        raise UserError("a.jsonl:3: broken")

    distributed = SimpleNamespace(is_initialized=lambda: connected)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(distributed=distributed))
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as caught:
        run_main(fail)
    assert caught.value.code == ("error: a.jsonl:3: broken" if connected else 1)


def test_a_bad_yaml_file_ends_a_script_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("sampels: [a]\n")
    command = [sys.executable, str(ROOT / "eval.py"), "--config", str(tmp_path / "c.yaml")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    expected = f"error: {tmp_path / 'c.yaml'}: unknown key 'sampels'; did you mean 'samples'?\n"
    assert result.stderr == expected


def test_a_closed_pipe_is_no_error() -> None:
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


def test_a_full_disk_is_one_line() -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "store/samples-0.jsonl")

    with pytest.raises(SystemExit, match=r"samples-0\.jsonl: No space left .*; finished work is"):
        run_main(fail)


def test_an_interrupted_run_says_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run_main(interrupt)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to continue\n"


def test_a_shown_config_reads_back_as_itself(tmp_path: Path) -> None:
    config = Options(Path("q"), 1e-7, mode="b", flag=True, inputs=(Path("x"),), note=None)
    assert parse_yaml(tmp_path, show_config(config)) == config
    assert list(plain_config(config)) == [field.name for field in dataclasses.fields(Options)]
    assert plain_config(config)["inputs"] == ["x"]
    assert show_config(config).startswith("path: q\nrate: ")  # the order of the fields


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_is_understood(path: Path) -> None:
    config_class = SCRIPTS[path.parent.name]
    fields = dataclasses.fields(config_class)
    required = [field.name for field in fields if field.default is dataclasses.MISSING]
    argv = [part for name in required for part in (f"--{name}", "x")]
    defaults = parse_config(config_class, argv)
    loaded = parse_config(config_class, ["--config", str(path), *argv])
    assert loaded != defaults or path.read_text().strip() == ""
    assert show_config(loaded)


def test_the_published_recipe_is_the_default() -> None:
    """The settings of the paper's appendix A.1 and the published launchers."""
    config = parse_config(
        train.TrainConfig, ["--model_name_or_path", "m", "--data_path", "d", "--output_dir", "o"]
    )
    assert (config.learning_rate, config.lr_scheduler_type, config.warmup_ratio) == (
        2e-5, "cosine", 0.03,
    )  # fmt: skip
    assert (config.weight_decay, config.num_train_epochs, config.global_batch_size) == (0, 3, 128)
    assert (config.max_length, config.precision) == (512, "bf16")
