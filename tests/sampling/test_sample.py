"""sample.py on a tiny model: exactly once, whatever happens in between."""

import errno
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

import sample
from screl.core.alpaca import build_prompt
from screl.core.config import run_main
from screl.core.cost import sampling_flops
from screl.core.io import UserError, locked
from screl.core.problems import load_problems
from screl.models.loading import load_shape
from screl.models.tokenizer import load_tokenizer
from screl.samples.reader import open_runs
from screl.samples.store import read_manifest, read_samples
from screl.sampling import engine as worker
from screl.sampling import run as sampling
from screl.sampling import transformers as engine_hf
from screl.sampling.config import SampleConfig
from screl.sampling.engine import Drawn
from screl.sampling.transformers import HFEngine
from tests.conftest import MINI_MODEL, ROOT, run_script, write_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:6]
    return write_lines(tmp_path_factory.mktemp("data") / "test.jsonl", lines)


def options(model: Path, data: Path, output: Path, **changes: object) -> list[str]:
    settings = {
        "model_name_or_path": model, "data_path": data, "output_dir": output,
        "n_samples": 4, "temperature": 1.0, "max_new_tokens": 8, "precision": "fp32",
        "batch_size": 5, "engine": "transformers",
    } | changes  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


def run_here(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sample.py", *argv])
    sample.main()


def lines_of(store: Path) -> list[str]:
    return sorted((store / "samples-0.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def full(tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run: 6 problems x 4 samples."""
    store = tmp_path_factory.mktemp("full") / "store"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(monkeypatch, options(tiny_model, data, store))
    return store


def test_every_sample_is_there_once(full: Path, data: Path) -> None:
    ids = [json.loads(line)["problem_id"] for line in data.read_text().splitlines()]
    keys = [(made.problem_id, made.sample_id) for made in read_samples(full)]
    assert sorted(keys) == sorted((i, j) for i in ids for j in range(4))
    manifest = read_manifest(full)
    assert (manifest["n_samples"], manifest["temperature"], manifest["top_k"]) == (4, 1.0, 0)
    results = json.loads((full / "run.json").read_text())["results"]
    assert results["n_samples"] == 24
    assert results["cost"]["all_sessions"] is True


def test_the_cost_is_that_of_prompts_and_completions(
    full: Path, tiny_model: Path, data: Path
) -> None:
    tokenizer, shape = load_tokenizer(str(tiny_model)), load_shape(str(tiny_model))
    prompts = {
        problem.problem_id: len(tokenizer(build_prompt(problem.question)).input_ids)
        for problem in load_problems(data)
    }
    made = [(prompts[one.problem_id], one.n_tokens) for one in read_samples(full)]
    cost = json.loads((full / "run.json").read_text())["results"]["cost"]
    assert cost["tokens"] == sum(map(sum, made))
    flops = sum(sampling_flops(shape, prompt, [length]) for prompt, length in made)
    assert cost["flops"] == pytest.approx(flops, rel=1e-12)
    assert cost["device"] == ("gpu" if torch.accelerator.is_available() else "cpu")
    assert cost["device_seconds"] > 0


def test_a_finished_store_is_left_alone(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = lines_of(full)
    run_here(monkeypatch, options(tiny_model, data, full))
    assert "0 samples made, 24 are there" in capsys.readouterr().out
    assert lines_of(full) == before


def test_more_samples_only_add(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k=2, then k=4, equals k=4 at once, whatever the batches."""
    store = tmp_path / "store"
    run_here(monkeypatch, options(tiny_model, data, store, n_samples=2, batch_size=3))
    assert len(lines_of(store)) == 12
    first = json.loads((store / "run.json").read_text())
    first["results"]["cost"]["device_seconds"] += 1000
    (store / "run.json").write_text(json.dumps(first))
    run_here(monkeypatch, options(tiny_model, data, store, batch_size=64))
    assert lines_of(store) == lines_of(full)
    cost, at_once = (
        json.loads((path / "run.json").read_text())["results"]["cost"] for path in (store, full)
    )
    assert (cost["tokens"], cost["all_sessions"]) == (at_once["tokens"], True)
    assert cost["flops"] == pytest.approx(at_once["flops"], rel=1e-12)
    assert 1000 < cost["device_seconds"] < 1600
    assert read_manifest(store)["n_samples"] == 4


@pytest.mark.parametrize("n_bytes", [0, 700, 1500, 2999])
def test_a_torn_store_is_completed_to_the_same_bytes(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, n_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Some prefix of the file is what a kill leaves."""
    store = Path(shutil.copytree(full, tmp_path / "store"))
    whole = (full / "samples-0.jsonl").read_bytes()
    assert n_bytes < len(whole)
    (store / "samples-0.jsonl").write_bytes(whole[:n_bytes])
    run_here(monkeypatch, options(tiny_model, data, store))
    assert lines_of(store) == lines_of(full)


def run_and_kill(argv: list[str], seconds: float) -> bool:
    """Run sample.py in a process of its own, SIGKILL it after a while; whether it ended before."""
    process = os.fork()  # not a fresh Python, which takes seconds to import torch
    if process == 0:
        # the bar's own lock is shared with the first process, which would wait for it for ever
        # if this one were killed while it holds it
        tqdm.set_lock(threading.RLock())
        sys.argv = ["sample.py", *argv]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sample.main()
        os._exit(0)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == 0


def test_killed_at_twenty_random_moments_it_ends_with_the_same_samples(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)  # a forked process cannot use the threads of the first
    monkeypatch.setattr(worker, "PATIENCE", 0.01)
    monkeypatch.setattr(sampling, "fingerprint", lambda _: "of the model")  # for time
    many = {"n_samples": 300, "chunk_size": 4, "max_new_tokens": 40}
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "whole", **many))
    store, argv = tmp_path / "s", options(tiny_model, data, tmp_path / "s", **many)
    rng, n_kills, sizes = random.Random(0), 0, []
    while n_kills < 20:
        if run_and_kill(argv, rng.uniform(0.1, 0.7)):
            break
        n_kills += 1
        file = store / "samples-0.jsonl"
        sizes.append(file.stat().st_size if file.is_file() else 0)
    assert n_kills >= 5
    assert len(set(sizes)) >= 4  # it did get on in between
    run_here(monkeypatch, argv)
    assert lines_of(store) == lines_of(tmp_path / "whole")
    assert len(lines_of(store)) == 1800


def test_another_run_into_the_same_folder_is_refused(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"temperature was 1\.0, now 0\.7.*another --output_dir"):
        run_here(monkeypatch, options(tiny_model, data, full, temperature=0.7))


def test_a_store_without_samples_does_not_bind(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"
    with pytest.raises(UserError, match="has room for"):
        run_here(monkeypatch, options(tiny_model, data, store, max_new_tokens=500))
    run_here(monkeypatch, options(tiny_model, data, store))
    assert lines_of(store) == lines_of(full)


def test_a_sample_of_an_unknown_problem_is_named(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(full, tmp_path / "s"))
    with open(store / "samples-0.jsonl", "a") as file:
        file.write(lines_of(full)[0].replace("test-0", "none-0") + "\n")
    with pytest.raises(UserError, match=r":25: a sample of problem 'none-0.*does not have"):
        run_here(monkeypatch, options(tiny_model, data, store))


def test_a_missing_run_json_is_written_again(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(full, tmp_path / "s"))
    (store / "run.json").unlink()
    run_here(monkeypatch, options(tiny_model, data, store))
    results = json.loads((store / "run.json").read_text())["results"]
    assert (results["n_samples"], results["n_samples_made_now"]) == (24, 0)
    assert results["cost"]["all_sessions"] is False


def test_greedy_makes_one_sample_and_names_no_temperature(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "g", n_samples=1, greedy=True))
    assert len(lines_of(tmp_path / "g")) == 6
    assert read_manifest(tmp_path / "g")["temperature"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"greedy": True}, "leave out --n_samples"),
        ({"n_samples": 0}, "must be at least 1"),
        ({"n_workers": -1}, "--n_workers must be at least 1"),
        ({"tensor_parallel_size": 0}, "--tensor_parallel_size must be at least 1"),
        ({"gpu_memory_utilization": 2}, "--gpu_memory_utilization must be in"),
        ({"temperature": 0}, "for the likeliest token: --greedy"),
        ({"top_p": 0}, "--top_p must be in"),
        ({"max_new_tokens": 500}, r"test\.jsonl:1: the prompt has \d+ tokens; .* has room for 12"),
    ],
)
def test_contradictions_are_named(
    tiny_model: Path, data: Path, tmp_path: Path, changes: dict[str, object], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with pytest.raises(UserError, match=message):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", **changes))


def test_dry_run_shows_config_prompt_and_ids_and_writes_nothing(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", dry_run=True))
    shown = capsys.readouterr().out
    assert "temperature: 1.0" in shown
    assert "### Response:" in shown
    assert "'<s>'" in shown
    assert not (tmp_path / "s").exists()


def test_a_hub_id_works_like_a_path(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """From a hub cache made by hand, as there need be no network."""
    cached = tmp_path / "hub" / "models--org--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0123abcd" * 5)
    shutil.copytree(tiny_model, cached / "snapshots" / ("0123abcd" * 5))
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    argv = options(Path("org/tiny"), data, tmp_path / "s")
    result = run_script("sample.py", *argv, **environment)
    assert result.returncode == 0, result.stderr
    assert lines_of(tmp_path / "s") == lines_of(full)
    assert read_manifest(tmp_path / "s")["model_sha256"] == "hub:org/tiny@" + "0123abcd" * 5
    unknown = options(Path("org/unknown"), data, tmp_path / "t")
    result = run_script("sample.py", *unknown, **environment)
    assert result.returncode == 1
    assert result.stderr.startswith("error: org/unknown: cannot be loaded: ")
    assert result.stderr.count("\n") == 1


def test_bad_input_ends_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    torn = write_lines(tmp_path / "torn.jsonl", ['{"query": "a", "response": "b"}', '{"query": '])
    result = run_script("sample.py", *options(tiny_model, torn, tmp_path / "s"))
    assert result.returncode == 1
    assert "torn.jsonl:2: not valid JSON" in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr


def test_a_full_disk_ends_in_one_line_and_loses_nothing(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 0.0)
    store, argv = tmp_path / "s", options(tiny_model, data, tmp_path / "s")
    real_fsync, calls = os.fsync, []

    def no_space(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:  # the manifest and some samples
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(descriptor)

    monkeypatch.setattr(sys, "argv", ["sample.py", *argv])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(
            SystemExit, match=r"samples-0\.jsonl: No space left on device; finished"
        ):
            run_main(sample.main)
    assert len(lines_of(store)) < 24
    sample.main()
    assert lines_of(store) == lines_of(full)


def test_a_samples_file_without_a_manifest_is_not_added_to(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samples-0.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"has samples but no manifest\.json"):
        run_here(monkeypatch, options(tiny_model, data, tmp_path))


def test_more_problems_only_add(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = data.read_text().splitlines()
    some = write_lines(tmp_path / "some.jsonl", lines[:4])
    store = tmp_path / "s"
    run_here(monkeypatch, options(tiny_model, some, store))
    first = lines_of(store)
    run_here(monkeypatch, options(tiny_model, data, store))
    assert set(first) < set(lines_of(store))
    assert lines_of(store) == lines_of(full)
    manifest, of_full = read_manifest(store), read_manifest(full)
    assert manifest == of_full
    for other in (lines[1:], [lines[0].replace("?", "!"), *lines[1:]], lines[:3]):
        write_lines(some, other)
        with pytest.raises(UserError, match="was sampled for other problems"):
            run_here(monkeypatch, options(tiny_model, some, store))


def test_only_one_may_write(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        locked(tmp_path / "s", "another process is sampling into it"),
        pytest.raises(UserError, match="another process is sampling into it"),
    ):
        run_here(monkeypatch, options(tiny_model, data, tmp_path / "s"))
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "s"))
    assert lines_of(tmp_path / "s") == lines_of(full)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_number_of_workers_changes_nothing(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, n_workers: int
) -> None:
    if n_workers > len(os.sched_getaffinity(0)):
        pytest.skip("one core")
    argv = options(tiny_model, data, tmp_path / "s", n_workers=n_workers, chunk_size=3)
    result = run_script("sample.py", *argv)
    assert result.returncode == 0, result.stderr
    assert lines_of(tmp_path / "s") == lines_of(full)


def test_out_of_memory_takes_less_at_once(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    real_step, sizes = HFEngine.step, []

    def step(engine: HFEngine) -> list[Drawn]:
        sizes.append(min(engine.n_unfinished, len(engine._tokens)))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real_step(engine)

    monkeypatch.setattr(HFEngine, "step", step)
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", batch_size=9))
    assert lines_of(tmp_path / "s") == lines_of(full)
    assert "going on with 4 samples at once\n" in (err := capsys.readouterr().err)
    assert "going on with 2 samples at once\n" in err


def test_a_prompt_that_always_fails_is_named_and_all_others_are_made(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = json.loads(data.read_text().splitlines()[2])["problem_id"]
    real_prefill = HFEngine._prefill

    def prefill(engine: HFEngine, requests):
        if any(request.problem_id == bad for request in requests):
            raise RuntimeError("index out of range")
        return real_prefill(engine, requests)

    argv = options(tiny_model, data, tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(HFEngine, "_prefill", prefill)
        with pytest.raises(UserError, match=rf"1 problems .*\({bad}\).*RuntimeError: index out of"):
            run_here(patch, argv)
    assert lines_of(tmp_path / "s") == [line for line in lines_of(full) if bad not in line]
    run_here(monkeypatch, argv)
    assert lines_of(tmp_path / "s") == lines_of(full)


def test_random_numbers_used_twice_raise_an_alarm(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    argv = options(tiny_model, data, tmp_path / "s", n_samples=8, max_new_tokens=20)
    with monkeypatch.context() as patch:
        patch.setattr(engine_hf, "sample_seed", lambda seed, problem_id, sample_id: sample_id // 2)
        run_here(patch, argv)
    assert "random seeds are used twice" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "s")
    run_here(monkeypatch, argv)
    assert "used twice" not in capsys.readouterr().err


def test_one_sample_can_be_made_again(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    stored = json.loads(lines_of(full)[7])
    only = f"{stored['problem_id']}:{stored['sample_id']}"
    run_here(monkeypatch, options(tiny_model, data, full, only=only))
    shown = capsys.readouterr().out
    assert stored["completion"] in shown
    assert "has the same" in shown
    manifest = (full / "manifest.json").read_text()
    run_here(monkeypatch, options(tiny_model, data, full, only=only, n_samples=9))
    with pytest.raises(UserError, match=r"temperature was 1\.0, now 0\.5"):
        run_here(monkeypatch, options(tiny_model, data, full, only=only, temperature=0.5))
    assert (full / "manifest.json").read_text() == manifest
    capsys.readouterr()
    other = Path(shutil.copytree(full, tmp_path / "s"))
    text = (full / "samples-0.jsonl").read_text()
    completion = json.dumps(stored["completion"], ensure_ascii=False)
    (other / "samples-0.jsonl").write_text(text.replace(completion, '"?"'))
    run_here(monkeypatch, options(tiny_model, data, other, only=only))
    assert "\n?\nthey differ" in capsys.readouterr().out
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "none", only=only))
    assert "none does not have it" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    for wrong in ("x:0", f"{stored['problem_id']}:x", "0"):
        with pytest.raises(UserError, match="expected PROBLEM_ID:SAMPLE_ID, such as"):
            run_here(monkeypatch, options(tiny_model, data, full, only=wrong))


def test_dry_run_tells_the_plan(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    argv = {"n_samples": 100, "chunk_size": 25, "dry_run": True}
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", **argv))
    shown = capsys.readouterr().out
    assert "a completion ends with 2 '</s>', or after 8 tokens" in shown
    assert "6 problems, 600 samples in" in shown
    assert "600 to make in about 24 requests" in shown
    assert "workers: 1 of" in shown
    run_here(monkeypatch, options(tiny_model, data, full, **argv))
    assert "24 of them there\n576 to make in about 23 requests" in capsys.readouterr().out


def test_until_correct_samples_hard_problems_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the miniature: a problem is left when the filter would keep enough of its samples."""
    changes = {
        "until_correct": 2, "max_samples": 12, "temperature": 1.0, "max_new_tokens": 100,
        "batch_size": 64,
    }  # fmt: skip
    argv = [a for a in options(MINI_MODEL, data, tmp_path / "s", **changes) if "n_samples" not in a]
    run_here(monkeypatch, argv)
    n_of = Counter(made.problem_id for made in read_samples(tmp_path / "s"))
    assert set(n_of.values()) <= {2, 4, 6, 9, 12}
    before = lines_of(tmp_path / "s")
    run_here(monkeypatch, argv)
    assert lines_of(tmp_path / "s") == before
    (run,) = open_runs(tmp_path / "s", load_problems(data), "train")  # not missing: not needed
    assert run.is_adaptive
    result = run_script("eval.py", tmp_path / "s", "--data_path", data)
    assert result.returncode == 1
    assert "more where answers were wrong" in result.stderr
    fixed = [a for a in argv if not a.startswith(("--until_correct", "--max_samples"))]
    with pytest.raises(UserError, match="give --n_samples 12 or more"):
        run_here(monkeypatch, [*fixed, "--n_samples=11"])
    with pytest.raises(UserError, match="--until_correct and --max_samples go together"):
        run_here(monkeypatch, [a for a in argv if "max_samples" not in a])


def test_engines_that_are_not_there(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SampleConfig(str(tiny_model), data, full)
    for installed in (True, False):
        spec = object() if installed else None
        monkeypatch.setattr("importlib.util.find_spec", lambda _, spec=spec: spec)
        other = replace(config, output_dir=full / "new")
        assert sampling.choose_engine(other) == ("vllm" if installed else "transformers")
        assert sampling.choose_engine(config) == "transformers"  # which began the store
    with pytest.raises(UserError, match="--engine vllm: vLLM is not installed"):
        sampling.choose_engine(replace(config, engine="vllm"))
    with pytest.raises(UserError, match="--tensor_parallel_size needs --engine vllm"):
        sampling.choose_engine(replace(config, tensor_parallel_size=2))
