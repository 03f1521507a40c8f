"""Run real Ray with two machines simulated on one: the same samples, also if one is lost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sample
from screl.core.io import UserError
from screl.samples.store import read_samples
from tests.conftest import ROOT, write_lines
from tests.sampling.conftest import lines_of, options

ray = pytest.importorskip("ray", reason="Ray is not installed (requirements-dev.txt)")
pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.slow]  # one cluster at a time


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator["ray.cluster_utils.Cluster"]:
    """Start a head that does no work; tests add machines of one CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "2")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def ray_options(model: Path, data: Path, store: Path, *more: object) -> list[str]:
    argv = options(model, data, store, n_samples=60, max_new_tokens=60, batch_size=8, chunk_size=10)
    return ["sample.py", *argv, *map(str, more)]


def test_machines_come_and_go_and_nothing_is_lost_or_made_twice(
    cluster, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:12]
    data = write_lines(tmp_path / "d.jsonl", lines)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ray_options(tiny_model, data, tmp_path / "alone"))
        sample.main()
    first = cluster.add_node(num_cpus=1, num_gpus=0)
    store = tmp_path / "s"
    words = ray_options(tiny_model, data, store, "--launcher", "ray", "--address", cluster.address)
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as running:
        wait_for_samples(store, 1)
        cluster.add_node(num_cpus=1, num_gpus=0)
        wait_for_samples(store, 100)
        cluster.remove_node(first, allow_graceful=False)
        stderr = running.communicate()[1]
    assert running.returncode == 0, stderr
    assert "a worker died" in stderr
    assert lines_of(store) == lines_of(tmp_path / "alone")
    info = json.loads((store / "run.json").read_text())
    cost = info["results"]["cost"]
    assert cost["device"] == "cpu"
    n_workers = cost["device_seconds"] / info["seconds"]  # at most two at once
    assert n_workers == pytest.approx(1, abs=0.05) or n_workers == pytest.approx(2, abs=0.1)


def wait_for_samples(store: Path, n: int) -> None:
    while not (store / "manifest.json").exists() or sum(1 for _ in read_samples(store)) < n:
        time.sleep(0.05)


def test_without_a_cluster_there_is_one_clear_line(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_lines(tmp_path / "d.jsonl", ['{"query": "a", "response": "#### 1"}'])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert os.environ.get("RAY_ADDRESS") is None
    monkeypatch.setattr(
        sys, "argv", ray_options(tiny_model, data, tmp_path / "s", "--launcher", "ray")
    )
    with pytest.raises(UserError, match=r"--address auto: no Ray cluster found .*ray start --head"):
        sample.main()
