"""What the run.json files behind a report say together."""

import json
from pathlib import Path
from typing import Any

from screl.core.run_info import describe_runs


def run_json(folder: Path, name: str, **fields: Any) -> Path:
    cost = {"flops": 1.0, "tokens": 1, "device": "cpu", "device_seconds": 900.0}
    info = {
        "command": f"{name.split('-')[0]}.py --option x",
        "started": "2026-01-02 03:04:05",
        "git_commit": "abc",
        "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.19.0"},
        "config": {"seed": 0},
        "results": {"cost": cost | {"all_sessions": True}},
    }
    path = folder / name / "run.json"
    path.parent.mkdir()
    path.write_text(json.dumps(info | fields))
    return path


def test_runs_are_described_together(tmp_path: Path) -> None:
    paths = [
        run_json(tmp_path, "train-0"),
        run_json(tmp_path, "train-1", config={"seed": 10}, git_commit="def"),
        run_json(tmp_path, "train-2", config={"seed": 2}, started="2026-01-01 23:00:00"),
        run_json(tmp_path, "sample-0", gpu="NVIDIA X", config={"seed": 0, "shots_seed": None}),
        run_json(tmp_path, "sample-1", config={"seed": 0, "shots_seed": 1}),
        run_json(tmp_path, "collect-0", config={}),  # has no seed
    ]
    machine, *facts = describe_runs(paths).splitlines()
    assert machine.startswith("* machine that wrote this: ")
    assert machine.endswith(" cores, NVIDIA X")
    assert facts == [
        "* steps: 6, 1.5 cpu hours",
        "* begun: 2026-01-01 23:00:00 to 2026-01-02 03:04:05 UTC",
        "* commit: abc, def",
        "* seeds: sample 0; sample shots 1; train 0, 2, 10",
        "* versions: python 3.11.7, torch 2.13.0, transformers 5.19.0",
    ]
