"""Run sample.py on a tiny model: every sample exactly once, whatever happens in between."""

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

import eval as eval_script
import sample
from screl.core import parallel
from screl.core.config import run_main
from screl.core.cost import Devices, count_samples
from screl.core.io import UserError, locked
from screl.core.problems import ALPACA_NO_INPUT, build_prompt, load_problems
from screl.models.loading import load_shape
from screl.models.prompts import SHOTS, icl_template
from screl.models.tokenizer import load_tokenizer
from screl.samples import reader
from screl.samples.reader import open_runs
from screl.samples.store import Sample, read_manifest, read_samples
from screl.sampling import engine as engine_module
from screl.sampling import run as run_module
from screl.sampling import tally
from screl.sampling import transformers as transformers_module
from screl.sampling.config import SampleConfig
from screl.sampling.transformers import HFEngine
from screl.sampling.workers import InProcessPool, SubprocessPool
from tests.conftest import MINI_MODEL, ROOT, run_script, write_lines
from tests.sampling.conftest import lines_of, options, run_here

ICL = {"prompt": "icl", "n_shots": 2, "n_samples": 3, "max_new_tokens": 60}


def results_of(store: Path) -> dict:
    return json.loads((store / "run.json").read_text())["results"]


def test_every_sample_is_made_once(full: Path, data: Path) -> None:
    ids = [json.loads(line)["problem_id"] for line in data.read_text().splitlines()]
    keys = [(made.problem_id, made.sample_id) for made in read_samples(full)]
    assert sorted(keys) == sorted((i, j) for i in ids for j in range(4))
    manifest = read_manifest(full)
    assert (manifest["n_samples"], manifest["temperature"], manifest["top_k"]) == (4, 1.0, 0)


def test_the_cost_is_that_of_prompts_and_completions(
    full: Path, tiny_model: Path, data: Path
) -> None:
    tokenizer, shape = load_tokenizer(str(tiny_model)), load_shape(str(tiny_model))
    prompts = {
        problem.problem_id: len(tokenizer(build_prompt(problem.question)).input_ids)
        for problem in load_problems(data)
    }
    made = [(prompts[one.problem_id], one.n_tokens) for one in read_samples(full)]
    cost = results_of(full)["cost"]
    assert cost["tokens"] == sum(map(sum, made))
    flops, _ = count_samples(shape, [prompt for prompt, _ in made], [[n] for _, n in made])
    assert cost["flops"] == pytest.approx(flops, rel=1e-12)
    assert (cost["device"], cost["all_sessions"]) == ("cpu", True)
    assert cost["device_seconds"] > 0


def test_a_finished_store_is_left_alone(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store = Path(shutil.copytree(full, tmp_path / "s"))
    before = (store / "run.json").read_text()
    run_here(monkeypatch, options(tiny_model, data, store))
    assert "0 samples made, 24 are stored" in capsys.readouterr().out
    assert lines_of(store) == lines_of(full)
    assert (store / "run.json").read_text() == before
    (store / "run.json").unlink()
    run_here(monkeypatch, options(tiny_model, data, store))
    results = results_of(store)
    assert (results["n_samples"], results["n_samples_made_now"]) == (24, 0)
    assert results["cost"]["all_sessions"] is False


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
    assert 1000 < results_of(store)["cost"]["device_seconds"] < 1600
    assert read_manifest(store)["n_samples"] == 4


@pytest.mark.parametrize("n_bytes", [0, 1500])
def test_a_torn_store_is_completed_to_the_same_bytes(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, n_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A kill leaves some prefix of the file."""
    store = Path(shutil.copytree(full, tmp_path / "store"))
    whole = (full / "samples-0.jsonl").read_bytes()
    assert n_bytes < len(whole)
    (store / "samples-0.jsonl").write_bytes(whole[:n_bytes])
    run_here(monkeypatch, options(tiny_model, data, store))
    assert lines_of(store) == lines_of(full)


def start_forked(argv: list[str]) -> int:
    """Run sample.py in a process of its own and return its id."""
    process = os.fork()  # not a fresh Python, which takes seconds to import torch
    if process == 0:
        # the bar's lock is shared with the first process, which would wait for it for ever if this
        # process were killed while it holds it
        tqdm.set_lock(threading.RLock())
        sys.argv = ["sample.py", *argv]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sample.main()
        os._exit(0)
    return process


def run_and_kill(argv: list[str], seconds: float) -> bool:
    """Run sample.py and SIGKILL it after a while; return whether it ended before."""
    process = start_forked(argv)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == 0


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_the_same_samples(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)  # a forked process cannot use the threads of the first
    monkeypatch.setattr(engine_module, "PATIENCE", 0.01)
    monkeypatch.setattr(run_module, "fingerprint", lambda _: "of the model")  # to save time
    many = {"n_samples": 300, "chunk_size": 4, "max_new_tokens": 24}
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
    assert len(set(sizes)) >= 4  # it made progress in between
    run_here(monkeypatch, argv)
    assert lines_of(store) == lines_of(tmp_path / "whole")
    assert len(lines_of(store)) == 1800


def test_a_run_killed_while_it_reads_its_store_leaves_no_process_that_locks_it(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(full, tmp_path / "s"))
    argv = options(tiny_model, data, store, n_samples=5)
    with monkeypatch.context() as patch:
        begun = tmp_path / "begun"
        patch.setattr(reader, "n_processors", lambda: 2)
        patch.setattr(parallel, "n_processors", lambda: 2)
        patch.setattr(tally, "tally_problem", lambda *_: (begun.touch(), time.sleep(60)))
        process = start_forked(argv)
        while not begun.exists():
            time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    time.sleep(0.5)
    run_here(monkeypatch, argv)
    assert len(lines_of(store)) == 30


def test_another_run_into_the_same_folder_is_refused(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"temperature was 1\.0, now 0\.7.*another --output_dir"):
        run_here(monkeypatch, options(tiny_model, data, full, temperature=0.7))


def test_a_run_without_samples_does_not_bind_and_only_one_process_may_write(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"

    def fail(*_: object) -> None:
        raise UserError("no engine")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "make_pool", fail)
        with pytest.raises(UserError, match="no engine"):
            run_here(patch, options(tiny_model, data, store, temperature=0.5))
    with (
        locked(store, "another process is sampling into it"),
        pytest.raises(UserError, match="another process is sampling into it"),
    ):
        run_here(monkeypatch, options(tiny_model, data, store))
    run_here(monkeypatch, options(tiny_model, data, store))
    assert lines_of(store) == lines_of(full)


def test_foreign_samples_are_refused(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(full, tmp_path / "s"))
    with open(store / "samples-0.jsonl", "a") as file:
        file.write(lines_of(full)[0].replace("test-0", "none-0") + "\n")
    with pytest.raises(UserError, match=r":25: a sample of problem 'none-0.*does not have"):
        run_here(monkeypatch, options(tiny_model, data, store))
    (store / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"has samples but no manifest\.json"):
        run_here(monkeypatch, options(tiny_model, data, store))


def test_greedy_makes_one_sample_and_names_no_temperature(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "g", n_samples=1, greedy=True))
    assert len(lines_of(tmp_path / "g")) == 6
    assert read_manifest(tmp_path / "g")["temperature"] is None


@pytest.mark.slow
def test_a_hub_id_works_like_a_path(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """From a hub cache made by hand, without a network."""
    cached = tmp_path / "hub" / "models--org--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0123abcd" * 5)
    shutil.copytree(tiny_model, cached / "snapshots" / ("0123abcd" * 5))
    environment = {
        "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    argv = options(Path("org/tiny"), data, tmp_path / "s")
    result = run_script("sample.py", *argv, **environment)
    assert result.returncode == 0, result.stderr
    assert lines_of(tmp_path / "s") == lines_of(full)
    assert read_manifest(tmp_path / "s")["model_sha256"] == "hub:org/tiny@" + "0123abcd" * 5
    unknown = options(Path("org/unknown"), data, tmp_path / "t")
    result = run_script("sample.py", *unknown, **environment)
    assert result.returncode == 1
    (_, error) = result.stderr.splitlines()  # after what was read
    assert error.startswith("error: org/unknown: ")


def test_a_full_disk_ends_in_one_line_and_loses_nothing(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PATIENCE", 0.0)
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
    assert read_manifest(store) == read_manifest(full)
    for other in (lines[1:], [lines[0].replace("?", "!"), *lines[1:]], lines[:3]):
        write_lines(some, other)
        with pytest.raises(UserError, match="was sampled for other problems"):
            run_here(monkeypatch, options(tiny_model, some, store))


def test_workers_are_processes_unless_one_is_enough(
    tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    config = SampleConfig(str(tiny_model), data, tmp_path)
    prompts = run_module.Prompts(config, load_problems(data))

    def pool(engine: run_module.EngineName, **changes: object) -> object:
        changed = replace(config, **changes)
        return run_module.make_pool(changed, run_module.make_spec(changed, engine, prompts))

    assert isinstance(pool("transformers"), InProcessPool)
    assert isinstance(pool("transformers", n_workers=2), SubprocessPool)
    assert isinstance(pool("vllm"), SubprocessPool)
    assert pool("vllm", n_workers=3).devices() == Devices("cpu", 3)


def test_out_of_memory_takes_fewer_at_once(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    real_step = HFEngine.step

    def step(engine: HFEngine) -> list[Sample]:
        if min(engine.n_unfinished, len(engine._tokens)) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real_step(engine)

    monkeypatch.setattr(HFEngine, "step", step)
    run_here(monkeypatch, options(tiny_model, data, tmp_path / "s", batch_size=9))
    assert lines_of(tmp_path / "s") == lines_of(full)
    assert "continuing with 4 samples at once\n" in (err := capsys.readouterr().err)
    assert "continuing with 2 samples at once\n" in err


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
        with pytest.raises(UserError, match=rf"1 problem .*\({bad}\).*RuntimeError: index out of"):
            run_here(patch, argv)
    assert lines_of(tmp_path / "s") == [line for line in lines_of(full) if bad not in line]
    run_here(monkeypatch, argv)
    assert lines_of(tmp_path / "s") == lines_of(full)


def test_copied_seeds_raise_an_alarm(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lines = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:20]
    data = write_lines(tmp_path / "d.jsonl", lines)
    argv = options(tiny_model, data, tmp_path / "s", n_samples=8)
    with monkeypatch.context() as patch:
        patch.setattr(transformers_module, "sample_seed", lambda *_: 7)
        run_here(patch, argv)
    assert "random seeds are reused" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "s")
    run_here(monkeypatch, argv)
    assert "random seeds" not in capsys.readouterr().err


def test_until_correct_samples_hard_problems_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A problem is left when the filter would keep enough of its samples."""
    store = tmp_path / "s"
    changes = {"temperature": 1.0, "max_new_tokens": 60, "batch_size": 64}
    until = {"until_correct": 2, "max_samples": 12, "n_samples": None}
    argv = options(MINI_MODEL, data, store, **changes, **until)
    run_here(monkeypatch, argv)
    n_of = Counter(made.problem_id for made in read_samples(store))
    assert set(n_of.values()) <= {2, 4, 6, 9, 12}
    before = lines_of(store)
    run_here(monkeypatch, argv)
    assert lines_of(store) == before
    (run,) = open_runs(store, load_problems(data), "train")  # complete, though some have few
    assert run.is_adaptive
    monkeypatch.setattr(sys, "argv", ["eval.py", str(store), "--data_path", str(data)])
    with pytest.raises(UserError, match="more samples where answers are wrong"):
        eval_script.main()
    with pytest.raises(UserError, match="give --n_samples 12 or more"):
        run_here(monkeypatch, options(MINI_MODEL, data, store, **changes, n_samples=11))


def test_auto_means_the_stores_engine_or_the_installed_one(
    full: Path, tiny_model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SampleConfig(str(tiny_model), data, full)
    for installed in (True, False):
        spec = object() if installed else None
        monkeypatch.setattr("importlib.util.find_spec", lambda _, spec=spec: spec)
        other = replace(config, output_dir=full / "new")
        assert run_module.choose_engine(other) == ("vllm" if installed else "transformers")
        assert run_module.choose_engine(config) == "transformers"  # which began the store
    with pytest.raises(UserError, match="--engine vllm: vLLM is not installed"):
        run_module.choose_engine(replace(config, engine="vllm"))
    with pytest.raises(UserError, match="--tensor_parallel_size needs --engine vllm"):
        run_module.choose_engine(replace(config, tensor_parallel_size=2))


@pytest.fixture(scope="module")
def icl_store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run with exemplars in the prompt: 6 problems x 3 samples."""
    store = tmp_path_factory.mktemp("icl") / "store"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(monkeypatch, options(MINI_MODEL, data, store, **ICL))
    return store


def sorted_samples(store: Path) -> list[Sample]:
    return sorted(read_samples(store), key=lambda sample: (sample.problem_id, sample.sample_id))


def test_the_manifest_has_the_whole_few_shot_prompt(icl_store: Path) -> None:
    template = icl_template(load_problems(SHOTS)[:2])
    assert template.count("Question: ") == 3
    expected = {
        "prompt": "icl", "n_shots": 2, "shots_seed": None, "shots_path": str(SHOTS),
        "stop": "Question:", "prompt_template": template,
    }  # fmt: skip
    assert expected.items() < read_manifest(icl_store).items()


def test_a_completion_ends_where_the_stop_string_begins(
    icl_store: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stop string of several tokens that the miniature does write."""
    stop = "How many"
    monkeypatch.setattr(run_module, "STOP", stop)
    run_here(monkeypatch, options(MINI_MODEL, data, tmp_path / "s", **ICL))
    lengths = set()
    stopped, whole = sorted_samples(tmp_path / "s"), sorted_samples(icl_store)
    for short, long in zip(stopped, whole, strict=True):
        text, found, _ = long.completion.partition(stop)
        assert short.completion == text.strip()
        assert short.finish_reason == ("stop" if found else long.finish_reason)
        assert (short.n_tokens < long.n_tokens) == bool(found)
        lengths.add(short.n_tokens if found else None)
    assert len(lengths) >= 4


def test_another_prompt_into_the_same_folder_is_refused_in_a_readable_line(
    icl_store: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = SHOTS.read_text().splitlines()
    other = write_lines(tmp_path / "shots.jsonl", [rows[1], rows[0]])
    icl = r"'Question: A ropewalk twists 14'\.\.\. \(SHA-256 [0-9a-f]{8}\.\.\.\)"
    other_icl = icl.replace("'Question: A ropewalk twists 14'", '"Question: Oda\'s beehives gave "')
    for changes, message in (
        ({"n_shots": 1}, rf"run \(n_shots was 2, now 1; prompt_template was {icl}, now {icl}\)"),
        ({"shots_path": other}, rf"\(prompt_template was {icl}, now {other_icl}\)"),
        ({"shots_seed": 3}, rf"\(prompt_template was {icl}, now .*; shots_seed was None, now 3\)"),
        ({"prompt": "alpaca", "n_shots": None}, r"prompt was 'icl', now 'alpaca'; prompt_template"),
    ):
        with pytest.raises(UserError, match=message) as error:
            run_here(monkeypatch, options(MINI_MODEL, data, icl_store, **ICL | changes))
        if "prompt" not in changes:
            assert len(str(error.value)) - len(str(icl_store)) < 300
    same = write_lines(tmp_path / "same.jsonl", rows[:5])  # the same prompt from another file
    before = lines_of(icl_store)
    run_here(monkeypatch, options(MINI_MODEL, data, icl_store, **ICL, shots_path=same))
    assert lines_of(icl_store) == before


def test_a_store_of_a_version_without_other_prompts_is_continued(
    full: Path, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(full, tmp_path / "s"))
    manifest = read_manifest(store)
    assert manifest.pop("prompt") == "alpaca"
    assert manifest["prompt_template"] == ALPACA_NO_INPUT
    assert not {"n_shots", "shots_seed", "shots_path", "stop"} & manifest.keys()
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="prompt was 'alpaca', now 'icl'"):
        run_here(monkeypatch, options(tiny_model, data, store, prompt="icl", n_shots=1))
    run_here(monkeypatch, options(tiny_model, data, store, n_samples=5))
    assert read_manifest(store) == manifest | {"prompt": "alpaca", "n_samples": 5}
    assert len(lines_of(store)) == 30
