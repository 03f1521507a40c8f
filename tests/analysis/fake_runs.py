"""Write models, stores, and filtered data as the stages would leave them."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from screl.analysis.cost import ModelCost, model_costs, trace
from screl.core.cost import Cost
from screl.samples.store import Sample, SampleWriter, open_store
from tests.conftest import write_lines

N_PROBLEMS = 40  # in the test set of ``answer``


def cost(flops: float) -> Cost:
    return Cost("gpu", 60.0, flops=flops, tokens=1000)


def run_cost(run: Path) -> list[ModelCost]:
    return model_costs(trace(run))


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_info(
    path: Path, config: dict[str, Any], flops: float | None = None, **results: Any
) -> None:
    if flops is not None:
        results["cost"] = asdict(cost(flops))
    write(path, {"config": config, "results": results})


def make_model(path: Path, base: Path, data: Path, flops: float | None = None) -> None:
    config = {"model_name_or_path": str(base), "data_path": str(data), "num_train_epochs": 3}
    write_info(path / "run.json", config, flops)


def make_store(path: Path, model: Path, flops: float | None, n_samples: int) -> None:
    write(path / "manifest.json", {"model_name_or_path": str(model), "n_samples": 1})
    config = {"model_name_or_path": str(model), "data_path": "d"}
    write_info(path / "run.json", config, flops, n_samples=n_samples)


def make_data(path: Path, n_used: dict[Path, int], flops: float | None = 0.0) -> None:
    runs = [{"name": str(store), "funnel": {"n_sampled": n}} for store, n in n_used.items()]
    runs.append({"name": "all", "funnel": {"n_sampled": sum(n_used.values())}})
    config = {"data_path": "d", "samples": list(map(str, n_used))}
    write_info(path.with_suffix(".run.json"), config, flops, runs=runs)


def make_chain(folder: Path) -> Path:
    """Write base -> sft -> samples -> rft.jsonl -> rft; the filter used 30 of 120 samples."""
    write_info(folder / "base/run.json", {"steps": 5}, 1e6)
    make_model(folder / "sft", folder / "base", folder / "solutions.jsonl", 2e6)
    make_store(folder / "samples", folder / "sft", 4e6, 120)
    make_data(folder / "rft.jsonl", {folder / "samples": 30})
    make_model(folder / "rft", folder / "base", folder / "rft.jsonl", 8e6)
    return folder


def answer(model: Path, correct: range, data: str = "test.jsonl") -> None:
    """Write greedy samples into a model's folder that are correct for these problems."""
    rows = [json.dumps({"query": f"q{i}", "response": "#### 7"}) for i in range(N_PROBLEMS)]
    data_path = write_lines(model.parent / data, rows)
    store = model / "greedy"
    shutil.rmtree(store, ignore_errors=True)
    open_store(store, {"greedy": True, "n_samples": 1, "data_path": str(data_path)}, [])
    with SampleWriter(store) as writer:
        writer.write(
            Sample(i, 0, f"#### {7 if i in correct else 8}", 3, "stop") for i in range(N_PROBLEMS)
        )
