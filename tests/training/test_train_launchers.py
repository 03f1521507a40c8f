"""The launchers of training, their configs and the Slurm job: the commands they stand for."""

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from screl.core.config import parse_config
from screl.training.config import TrainConfig
from tests.conftest import ROOT, run_script

CONFIGS = ROOT / "configs/train"
ARGUMENTS = "--data_path d --output_dir o --num_train_epochs 3"
ALONE, EIGHT = "python", "torchrun --standalone --nproc_per_node 8"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE"):
        monkeypatch.delenv(name, raising=False)


def runs(start: str, model: str, arguments: str = ARGUMENTS) -> str:
    """The command for a config's name, or for another model."""
    is_config = (CONFIGS / f"{model}.yaml").exists() and "/" not in model
    given = f"--config {CONFIGS}/{model}.yaml" if is_config else f"--model_name_or_path {model}"
    return f"{start} {ROOT}/train.py {given} {arguments}"


def several(nodes: int, rank: int, per_node: int = 8, address: str = "h", port: int = 29500) -> str:
    return (
        f"torchrun --nnodes {nodes} --nproc_per_node {per_node} --node_rank {rank}"
        f" --master_addr {address} --master_port {port}"
    )


@pytest.mark.parametrize(
    ("settings", "command", "stands_for"),
    [
        ("", "train.sh llama2_7b d o 3", runs(EIGHT, "llama2_7b")),
        ("", "train.sh mini d o 3", runs(ALONE, "mini")),
        ("", "train.sh ./mini d o 3", runs(EIGHT, "./mini")),
        ("", "train.sh org/model d o 3", runs(EIGHT, "org/model")),
        ("world_size=2", "train.sh org/model d o 3", runs(EIGHT, "org/model")),
        ("", "train.sh mini d o 0.5", runs(ALONE, "mini", f"{ARGUMENTS[:-1]}0.5")),
        ("", "train.sh mini d o 3 --seed 1 --output_dir p --num_train_epochs 2",
         runs(ALONE, "mini", f"{ARGUMENTS} --seed 1 --output_dir p --num_train_epochs 2")),
        ("", "train_7b.sh d o 3 --seed 1", runs(EIGHT, "llama_7b", f"{ARGUMENTS} --seed 1")),
        ("MODEL=llama2_7b", "train_7b.sh d o 3", runs(EIGHT, "llama2_7b")),
        ("", "train_13b.sh d o 3", runs(EIGHT, "llama_13b")),
        ("MODEL=llama2_13b", "train_13b.sh d o 3", runs(EIGHT, "llama2_13b")),
        ("NODE_RANK=1 MASTER_ADDR=h", "train_30b.sh d o 3", runs(several(2, 1), "llama_33b")),
        ("NODE_RANK=0 MASTER_ADDR=h", "train_65b.sh d o 3", runs(several(4, 0), "llama_65b")),
        ("NODE_RANK=3 MASTER_ADDR=h MASTER_PORT=7", "train_70b.sh d o 3",
         runs(several(4, 3, port=7), "llama2_70b")),
        # other numbers of GPUs
        ("NPROC_PER_NODE=2", "train.sh mini d o 3",
         runs("torchrun --standalone --nproc_per_node 2", "mini")),
        ("NNODES=1 NPROC_PER_NODE=1", "train_7b.sh d o 3", runs(ALONE, "llama_7b")),
        ("NNODES=1 NPROC_PER_NODE=4", "train_70b.sh d o 3",
         runs("torchrun --standalone --nproc_per_node 4", "llama2_70b")),
        ("NNODES=1", "train_70b.sh d o 3", runs(EIGHT, "llama2_70b")),
        ("NPROC_PER_NODE=4 NODE_RANK=1 MASTER_ADDR=h", "train_7b.sh d o 3",
         runs(several(2, 1, per_node=4), "llama_7b")),
        ("NPROC_PER_NODE=3 NODE_RANK=2 MASTER_ADDR=h", "train_7b.sh d o 3",
         runs(several(3, 2, per_node=3), "llama_7b")),
        ("NPROC_PER_NODE=16", "train_7b.sh d o 3",
         runs("torchrun --standalone --nproc_per_node 16", "llama_7b")),
        ("NNODES=2 NODE_RANK=1 MASTER_ADDR=h", "train.sh llama3_2_1b d o 3",
         runs(several(2, 1, per_node=1), "llama3_2_1b")),
        # one machine, of which the environment says where it is
        ("MASTER_ADDR=h", "train_7b.sh d o 3", runs(several(1, 0), "llama_7b")),
        ("MASTER_ADDR=h NODE_RANK=5", "train_7b.sh d o 3", runs(several(1, 0), "llama_7b")),
        ("MASTER_PORT=7", "train_7b.sh d o 3", runs(EIGHT, "llama_7b")),
        ("MASTER_ADDR=h", "train.sh mini d o 3", runs(ALONE, "mini")),
    ],
)  # fmt: skip
def test_what_a_launcher_runs(settings: str, command: str, stands_for: str) -> None:
    script, *arguments = command.split()
    environment = dict(setting.split("=") for setting in settings.split())
    result = run_script(
        f"scripts/{script}", *arguments, launcher=("bash",), LAUNCHER="echo", **environment
    )
    assert (result.stdout.strip(), result.stderr, result.returncode) == (stands_for, "", 0)


@pytest.mark.parametrize(
    ("settings", "command", "says"),
    [
        ("", "train_65b.sh d o 3", "on 4 machines: set NODE_RANK (0 to 3"),
        ("NODE_RANK=0", "train_65b.sh d o 3", "and MASTER_ADDR"),
        ("MASTER_ADDR=h", "train_65b.sh d o 3", "NODE_RANK (0 to 3"),
        ("MASTER_ADDR=h NODE_RANK=4", "train_65b.sh d o 3", "NODE_RANK (0 to 3"),
        ("MASTER_ADDR=h NODE_RANK=x", "train_65b.sh d o 3", "NODE_RANK (0 to 3"),
        ("MASTER_ADDR=h NODE_RANK=-1", "train_65b.sh d o 3", "NODE_RANK (0 to 3"),
        ("NPROC_PER_NODE=4", "train_7b.sh d o 3", "or NNODES=1 to train on this machine only"),
        ("NPROC_PER_NODE=0", "train_7b.sh d o 3", "NPROC_PER_NODE must be"),
        ("NPROC_PER_NODE=gpu", "train_7b.sh d o 3", "a positive whole number, not gpu"),
        ("NPROC_PER_NODE=2.5", "train_7b.sh d o 3", "a positive whole number, not 2.5"),
        ("NNODES=-1", "train_7b.sh d o 3", "NNODES must be a positive whole number, not -1"),
        ("NNODES=1:2", "train_7b.sh d o 3", "NNODES must be a positive whole number, not 1:2"),
        ("", "train_7b.sh d o three", "EPOCHS must be a number, not three"),
        ("", "train_7b.sh d o 3e", "EPOCHS must be a number, not 3e"),
        ("", "train_7b.sh d o .", "EPOCHS must be a number, not ."),
        ("", "train_7b.sh d o --seed 1", "EPOCHS must be a number, not --seed"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(settings: str, command: str, says: str) -> None:
    script, *arguments = command.split()
    environment = dict(setting.split("=") for setting in settings.split())
    result = run_script(
        f"scripts/{script}", *arguments, launcher=("bash",), LAUNCHER="echo", **environment
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    ["train.sh", "train.sh mini d o", "train.sh --seed d o 3", "train.sh mini --seed 1 2",
     "train.sh mini d --seed 1", "train_7b.sh d o", "train_13b.sh d o", "train_30b.sh d o",
     "train_65b.sh d o", "train_70b.sh d o"],
)  # fmt: skip
def test_with_too_few_arguments_a_launcher_explains_itself(command: str) -> None:
    script, *arguments = command.split()
    result = run_script(f"scripts/{script}", *arguments, launcher=("bash",), LAUNCHER="echo")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: bash ")
    assert result.stderr.count("\n") == 1


def read_config(name: str) -> TrainConfig:
    path = str(CONFIGS / f"{name}.yaml")
    return parse_config(TrainConfig, ["--config", path, "--data_path", "d", "--output_dir", "o"])


PUBLISHED = {  # processes, examples a process runs at once
    "llama_7b": (8, 4),
    "llama2_7b": (8, 4),
    "llama_13b": (8, 1),
    "llama2_13b": (8, 1),
    "llama_33b": (16, 2),
    "llama_65b": (32, 1),
    "llama2_70b": (32, 2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_recipes(name: str) -> None:
    config = read_config(name)
    assert (config.world_size, config.loss_group_size) == PUBLISHED[name]
    assert config.sharding == "fsdp"
    large = config.world_size > 8
    assert config.gradient_checkpointing is large
    assert config.micro_batch_tokens == (2048 if large else 4096)
    assert config.save_precision == ("fp32" if "_7b" in name else "bf16")


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*llama*.yaml")))
def test_what_all_llamas_share(name: str) -> None:
    """As published; and a model is named after its config, so that no two train the same one."""
    config = read_config(name)
    recipe = (config.learning_rate, config.num_train_epochs, config.lr_scheduler_type)
    assert recipe == (2e-5, 3.0, "cosine")
    assert (config.warmup_ratio, config.weight_decay, config.precision) == (0.03, 0.0, "bf16")
    assert config.global_batch_size == 128
    words = name.replace("llama2", "llama_2").replace("llama3_2", "llama_3.2").split("_")
    hub_id = config.model_name_or_path.lower().replace("llama-30b", "llama-33b")  # Meta's 33B
    assert hub_id.split("/")[1].removesuffix("-hf") == "-".join(words)


@pytest.mark.parametrize("name", ["llama3_2_1b", "mini", "smollm2_135m"])
def test_the_small_ones_take_one_process(name: str) -> None:
    assert read_config(name).world_size == 1


def test_every_config_says_how_many_processes() -> None:
    """train.sh reads the number from the file's text: it has to be what the program reads."""
    for path in CONFIGS.glob("*.yaml"):
        name = path.stem
        assert path.read_text().startswith("# "), name
        world_size = read_config(name).world_size
        assert world_size is not None, name
        result = run_script(
            "scripts/train.sh", name, "d", "o", "3",
            launcher=("bash",), LAUNCHER="echo", NODE_RANK="0", MASTER_ADDR="h",
        )  # fmt: skip
        start = ALONE if world_size == 1 else several(max(1, world_size // 8), 0)
        assert result.stdout.strip() == runs(start, name)


def slurm_job(
    folder: Path, root: Path, srun: str, host: str, *arguments: str, **settings: str
) -> str:
    """What the job printed on two machines; its srun runs the command on each as the body says."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    stubs = {
        "scontrol": f'[ "$*" = "show hostnames node[1-2]" ] && printf "{host}\\nnode2\\n"',
        "srun": 'options=(); while [[ "$1" == -* ]]; do options+=("$1"); shift; done\n'
        f'echo "srun $SRUN_CPUS_PER_TASK ${{options[*]}}" >> {folder}/log\n{srun}',
    }
    for name, body in stubs.items():
        (bin_folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (bin_folder / name).chmod(0o755)
    result = run_script(
        "scripts/slurm/train.sbatch", *arguments, launcher=("bash",),
        PATH=f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        SLURM_SUBMIT_DIR=str(root), SLURM_JOB_NODELIST="node[1-2]", SLURM_JOB_NUM_NODES="2",
        SLURM_CPUS_ON_NODE="96", SLURM_NODEID="0", **settings,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (folder / "log").read_text() == "srun 96 --kill-on-bad-exit=1\n"
    return result.stdout


ONE_BY_ONE = 'for id in 0 1; do SLURM_NODEID=$id "$@" || exit; done'
AT_ONCE = 'SLURM_NODEID=1 "$@" & SLURM_NODEID=0 "$@" && wait $!'


def test_the_slurm_job_trains_on_every_machine(tmp_path: Path) -> None:
    """Each with its own rank, for the whole job, and with its arguments as they were given."""
    odd = ("my data", "o'\"$(id)", "3", "--seed", "*")
    printed = slurm_job(
        tmp_path, ROOT, ONE_BY_ONE, "node1", "llama2_70b", *odd,
        LAUNCHER=r"printf %s\n", SLURM_GPUS_ON_NODE="4",
    )  # fmt: skip
    end = [
        f"{ROOT}/train.py", "--config", f"{CONFIGS}/llama2_70b.yaml", "--data_path", odd[0],
        "--output_dir", odd[1], "--num_train_epochs", "3", "--seed", "*",
    ]  # fmt: skip
    starts = [several(2, rank, per_node=4, address="node1").split() for rank in (0, 1)]
    assert printed.splitlines() == starts[0] + end + starts[1] + end


def test_the_slurm_job_defaults(tmp_path: Path) -> None:
    printed = slurm_job(
        tmp_path, ROOT, ONE_BY_ONE, "node1", "llama_33b", "d", "o", "3",
        LAUNCHER="echo", MASTER_PORT="7",
    )  # fmt: skip
    commands = [runs(several(2, rank, address="node1", port=7), "llama_33b") for rank in (0, 1)]
    assert printed.splitlines() == commands


def test_the_slurm_job_with_torchrun_for_real(tmp_path: Path) -> None:
    """Two machines of two processes find each other; what they run only says who it is."""
    root = tmp_path / "root"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    (root / "train.py").write_text(
        "import os, sys\n"
        "names = 'GROUP_RANK', 'LOCAL_RANK', 'RANK', 'WORLD_SIZE'\n"
        "line = ' '.join([*(os.environ[name] for name in names), *sys.argv[1:]])\n"
        "sys.stdout.write(line + '\\n')\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    printed = slurm_job(
        tmp_path, root, AT_ONCE, "127.0.0.1", "org/model", "d", "o", "3", "--seed", "1",
        MASTER_PORT=port, SLURM_GPUS_ON_NODE="2",
    )  # fmt: skip
    given = f"4 --model_name_or_path org/model {ARGUMENTS} --seed 1"
    assert sorted(printed.splitlines()) == [
        f"{rank // 2} {rank % 2} {rank} {given}" for rank in range(4)
    ]
