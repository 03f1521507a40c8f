"""Runs that are pooled as seeds must differ in nothing but the seed."""

import json
from pathlib import Path
from typing import Any

import pytest

from screl.core.io import UserError
from screl.scoring.recipe import check_recipe

SAMPLING = {"greedy": True, "temperature": None, "prompt": "alpaca", "precision": "fp32"}
TRAINING = {"num_train_epochs": 3.0, "learning_rate": 2e-5, "model_name_or_path": "org/base"}
FILTERING = {"fidelity": "strict", "k": None, "control": "none"}


def write(path: Path, value: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def store(folder: Path, model: Path, **changes: Any) -> Path:
    write(folder / "manifest.json", SAMPLING | {"model_name_or_path": str(model)} | changes)
    return folder


def model(folder: Path, data: Path, **changes: Any) -> Path:
    config = TRAINING | {"data_path": str(data), "output_dir": str(folder)} | changes
    write(folder / "run.json", {"config": config})
    return folder


def filtered(data: Path, samples: Path, **changes: Any) -> Path:
    config = FILTERING | {"samples": [str(samples)], "output_path": str(data)} | changes
    write(data.with_suffix(".run.json"), {"config": config})
    data.write_text(f"rows made from {samples}\n")
    return data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("rows\n")
    return path


def sft(root: Path, data: Path, seed: int, **changes: Any) -> Path:
    return model(root / f"seed{seed}" / "sft", data, seed=seed, **changes)


def rft(root: Path, data: Path, seed: int, **changes: Any) -> Path:
    """Return RFT's greedy samples; ``changes`` are those of the filter."""
    folder = root / f"seed{seed}"
    samples = store(folder / "samples", sft(root, data, seed), seed=seed, greedy=False)
    rows = filtered(folder / "rft.jsonl", samples, **changes)
    return store(folder / "rft_greedy", model(folder / "rft", rows, seed=seed))


def refusal(*runs: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_recipe(runs)
    return str(caught.value)


def test_seeds_of_the_whole_pipeline_are_one_recipe(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_recipe([rft(tmp_path, data, seed) for seed in range(3)])
    assert capsys.readouterr().err == ""


def test_sft_and_rft_are_not(tmp_path: Path, data: Path) -> None:
    first = store(tmp_path / "greedy", sft(tmp_path, data, 0))
    assert "model: data: kind 'not filtered' and 'filtered samples'" in refusal(
        first, rft(tmp_path, data, 1)
    )


@pytest.mark.parametrize(
    ("key", "value"), [("k", 4), ("control", "rows"), ("fidelity", "paper"), ("no_dedup", True)]
)
def test_another_filter_is_named(tmp_path: Path, data: Path, key: str, value: object) -> None:
    runs = [rft(tmp_path, data, 0, **{key: None}), rft(tmp_path, data, 1, **{key: value})]
    assert f"(model: data: {key} None and {value!r})" in refusal(*runs)


@pytest.mark.parametrize(
    ("key", "value"),
    [("learning_rate", 1e-5), ("model_name_or_path", "org/other"), ("num_train_epochs", 6.0)],
)
def test_another_training_is_named(tmp_path: Path, data: Path, key: str, value: object) -> None:
    models = [sft(tmp_path, data, 0), sft(tmp_path, data, 1, **{key: value})]
    runs = [store(tmp_path / f"greedy{i}", models[i]) for i in range(2)]
    name = {"model_name_or_path": "base: name"}.get(key, key)
    assert f"(model: {name} {TRAINING[key]!r} and {value!r})" in refusal(*runs)


def test_other_rows_and_another_sampling_are_named(tmp_path: Path, data: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("other rows\n")
    first, second = sft(tmp_path, data, 0), sft(tmp_path, other, 1)
    runs = [store(tmp_path / "a", first), store(tmp_path / "b", second)]
    assert "model: data: sha256 " in refusal(*runs)
    runs = [store(tmp_path / "a", first), store(tmp_path / "b", first, precision="bf16")]
    assert "(precision 'fp32' and 'bf16')" in refusal(*runs)
    # behind the filter
    runs = [rft(tmp_path, data, seed) for seed in range(2)]
    store(tmp_path / "seed1" / "samples", tmp_path / "seed1" / "sft", temperature=1.0, greedy=False)
    assert "model: data: samples 1: temperature None and 1.0" in refusal(*runs)


def test_a_control_of_as_many_steps_has_similar_epochs(tmp_path: Path, data: Path) -> None:
    models = [sft(tmp_path, data, i, num_train_epochs=n) for i, n in enumerate([8.96, 8.6])]
    check_recipe([store(tmp_path / f"greedy{i}", models[i]) for i in range(2)])


def test_what_is_not_recorded_is_said(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Models from elsewhere, and samples in other layouts."""
    runs = [store(tmp_path / "a", Path("org/seed1")), store(tmp_path / "b", Path("org/seed2"))]
    (tmp_path / "published").mkdir()
    check_recipe([*runs, tmp_path / "published"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{runs[0]}, {runs[1]}, {tmp_path / 'published'}: no record")
    assert "temperature 0.7 and 1.0" in refusal(
        store(tmp_path / "c", Path("org/1"), temperature=0.7),
        store(tmp_path / "d", Path("org/2"), temperature=1.0),
    )


def test_a_reused_path_does_not_loop(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "m"
    first = store(tmp_path / "a", model(folder, data, model_name_or_path=str(folder)))
    check_recipe([first, store(tmp_path / "b", folder)])
