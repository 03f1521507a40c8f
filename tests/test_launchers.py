"""Check the command that each launcher of sampling runs, and run one with the miniature."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import MINI_MODEL, ROOT, run_script, write_lines

SAMPLE = f"python {ROOT}/sample.py"
PAPER = f"--config {ROOT}/configs/sample/paper.yaml"
TRAIN, TEST = f"--data_path {ROOT}/data/train_use.jsonl", f"--data_path {ROOT}/data/test_use.jsonl"
GROUP = f"{SAMPLE} {PAPER} --model_name_or_path m {TRAIN} --output_dir m/samples"
GREEDY = f"{SAMPLE} --greedy --model_name_or_path m {TEST} --output_dir m/greedy"


@pytest.mark.parametrize(
    ("command", "stands_for"),
    [
        ("group_sample.sh m", GROUP),
        ("group_sample.sh m --n_samples 4", f"{GROUP} --n_samples 4"),
        ("group_sample_7b_13b.sh m", GROUP),
        ("group_sample_30b.sh m", f"{GROUP} --temperature 0.7"),
        ("group_sample_30b.sh m --seed 3", f"{GROUP} --temperature 0.7 --seed 3"),
        ("single_test_30b.sh m", GREEDY),
        ("single_test_30b.sh m --batch_size 4", f"{GREEDY} --batch_size 4"),
        ("group_sample_30b.sh m 1.0 --seed 3", f"{GROUP} --temperature 1.0 --seed 3"),
        ("group_sample_65b.sh m", f"{GROUP} --tensor_parallel_size 2"),
        ("test_7b_13b.sh m", GREEDY),
        ("icl_test.sh m --n_shots 4", f"{GREEDY} --prompt icl --output_dir m/icl --n_shots 4"),
        ("single_test_30b.sh m 3 d.jsonl", f"{GREEDY} --data_path d.jsonl"),
        ("single_test_65b.sh m 2,3", f"{GREEDY} --tensor_parallel_size 2"),
        (
            "single_test_65b.sh m 2,3 d.jsonl",
            f"{GREEDY} --tensor_parallel_size 2 --data_path d.jsonl",
        ),
    ],
)
def test_what_a_launcher_runs(command: str, stands_for: str) -> None:
    script, *arguments = command.split()
    result = run_script(f"scripts/{script}", *arguments, launcher=("bash",), LAUNCHER="echo")
    assert (result.stdout.strip(), result.stderr, result.returncode) == (stands_for, "", 0)


@pytest.mark.parametrize("gpus", ["4", "2,3"])
def test_only_the_named_gpus_are_visible(gpus: str) -> None:
    size = "65b" if "," in gpus else "30b"
    result = run_script(
        f"scripts/single_test_{size}.sh", "m", gpus, launcher=("bash",),
        LAUNCHER="printenv CUDA_VISIBLE_DEVICES",
    )  # fmt: skip
    assert result.stdout == f"{gpus}\n"


@pytest.mark.parametrize(
    "script", [path.name for path in sorted((ROOT / "scripts").glob("*_[0-9]*b.sh"))]
)
def test_without_a_model_a_launcher_prints_its_usage(script: str) -> None:
    result = run_script(f"scripts/{script}", launcher=("bash",), LAUNCHER="echo")
    assert result.returncode == 2
    assert result.stderr.startswith("usage: bash ")


def test_a_hub_id_or_a_wrong_folder_is_refused(tmp_path: Path) -> None:
    """Samples are written into the model's folder, so a hub id would create one."""
    for script in ("group_sample.sh", "greedy_test.sh", "icl_test.sh"):
        result = run_script(f"scripts/{script}", tmp_path / "none", launcher=("bash",))
        assert result.returncode == 1
        assert result.stderr.endswith("none: has no config.json; give the folder of a checkpoint\n")


@pytest.mark.slow
def test_launchers_with_the_miniature(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MINI_MODEL, tmp_path / "m"))
    lines = (ROOT / "data/mini/test.jsonl").read_text().splitlines()[:4]
    data = write_lines(tmp_path / "d.jsonl", lines)
    small = ("--max_new_tokens", 8, "--precision", "fp32", "--engine", "transformers")
    group = run_script(
        "scripts/group_sample_30b.sh", model, "0.9", *small, "--data_path", data, "--n_samples", 3,
        launcher=("bash",), CUDA_VISIBLE_DEVICES="",
    )  # fmt: skip
    assert group.returncode == 0, group.stderr
    greedy = run_script("scripts/single_test_30b.sh", model, "0", data, *small, launcher=("bash",))
    assert greedy.returncode == 0, greedy.stderr
    manifest = json.loads((model / "samples/manifest.json").read_text())
    assert [manifest[key] for key in ("n_samples", "temperature", "top_k")] == [3, 0.9, 50]
    for store, n in (("samples", 12), ("greedy", 4)):
        assert len((model / store / "samples-0.jsonl").read_text().splitlines()) == n


def test_the_slurm_job_starts_ray_everywhere_and_samples_once(tmp_path: Path) -> None:
    """With stubs for srun, scontrol, ray, and python that log their arguments."""
    bin_folder, log = tmp_path / "bin", tmp_path / "log"
    bin_folder.mkdir()
    stubs = {
        "scontrol": "printf 'node1\\nnode2\\nnode3\\n'",
        # stays alive, as srun does while ray runs
        "srun": f'echo "srun $SRUN_CPUS_PER_TASK $*" >> {log}; exec sleep 9 >/dev/null 2>&1',
        "ray": f'[ "$(grep -c . {log})" -ge 1 ]',  # ray status: succeeds once the head runs
        "python": f'echo "python $*" >> {log}',
    }
    for name, body in stubs.items():
        (bin_folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (bin_folder / name).chmod(0o755)
    root = tmp_path / "root"
    (root / "scripts").mkdir(parents=True)
    for name in ("group_sample.sh", "model_folder.sh"):
        shutil.copy(ROOT / "scripts" / name, root / "scripts")
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").touch()
    result = run_script(
        "scripts/slurm/sample.sbatch", tmp_path / "m", "--n_samples", "7", launcher=("bash",),
        PATH=f"{bin_folder}:{os.environ['PATH']}", SLURM_SUBMIT_DIR=str(root),
        SLURM_JOB_NODELIST="node[1-3]", SLURM_JOB_NUM_NODES="3", SLURM_CPUS_ON_NODE="96",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    calls = sorted(log.read_text().splitlines())
    sample, *workers = calls
    assert sample.endswith("--n_samples 7 --launcher ray --address node1:6379")
    assert [call for call in workers if "--head" in call] == [
        "srun 96 --nodes=1 --ntasks=1 --nodelist=node1 ray start --head --port=6379 --block"
    ]
    assert [call for call in workers if "--head" not in call] == [
        "srun 96 --nodes=2 --ntasks=2 --exclude=node1 --no-kill "
        "ray start --address=node1:6379 --block"
    ]


def test_every_script_is_valid_bash() -> None:
    scripts = [*ROOT.glob("scripts/**/*.sh"), *ROOT.glob("scripts/slurm/*")]
    assert len(scripts) > 10
    for script in scripts:
        assert run_script("-n", script, launcher=("bash",)).stderr == ""
