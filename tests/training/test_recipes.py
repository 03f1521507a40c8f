"""Test every recipe from its launcher to its plan, and the commands that the launchers run.

The models have their published config.json numbers, the miniature's tokenizer and no weights; the
rows are as long as GSM8K's with LLaMA's tokenizer.
"""

import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path
from random import Random

import pytest

from screl.core.config import parse_config
from screl.core.io import UserError
from screl.core.problems import Problem
from screl.models.tokenizer import load_tokenizer, tokenize_example
from screl.training.config import TrainConfig
from tests.conftest import MINI_MODEL, ROOT, run_script, write_lines
from tests.training.conftest import run_here

CONFIGS = ROOT / "configs/train"
ARGUMENTS = "--data_path d --output_dir o --num_train_epochs 3"
ALONE, EIGHT = "python", "torchrun --standalone --nproc_per_node 8"
SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "vocab_size")  # fmt: skip
MODELS = {  # SHAPE; weights; GPUs as published
    "llama_7b": ((4096, 11008, 32, 32, 32, 32000), 6_738_415_616, 8),
    "llama2_7b": ((4096, 11008, 32, 32, 32, 32000), 6_738_415_616, 8),
    "llama_13b": ((5120, 13824, 40, 40, 40, 32000), 13_015_864_320, 8),
    "llama2_13b": ((5120, 13824, 40, 40, 40, 32000), 13_015_864_320, 8),
    "llama_33b": ((6656, 17920, 60, 52, 52, 32000), 32_528_943_616, 16),
    "llama_65b": ((8192, 22016, 80, 64, 64, 32000), 65_285_660_672, 32),
    "llama2_70b": ((8192, 28672, 80, 64, 8, 32000), 68_976_648_192, 32),
    "llama3_2_1b": ((2048, 8192, 16, 32, 8, 128256), 1_235_814_400, 1),
    "smollm2_135m": ((576, 1536, 30, 9, 3, 49152), 134_515_008, 1),
    "mini": ((128, 320, 4, 4, 2, 768), 787_584, 1),
}
GROUP_SIZES = {  # examples that a process ran at once, as published
    "llama_7b": 4, "llama2_7b": 4, "llama_13b": 1, "llama2_13b": 1, "llama_33b": 2,
    "llama_65b": 1, "llama2_70b": 2,
}  # fmt: skip
LAUNCHERS = {
    "llama_7b": "train_7b.sh", "llama_13b": "train_13b.sh", "llama_33b": "train_30b.sh",
    "llama_65b": "train_65b.sh", "llama2_70b": "train_70b.sh",
}  # fmt: skip
N_ROWS = 512


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return rows of 120 to 510 tokens, 220 on average, as GSM8K's."""
    tokenizer, random = load_tokenizer(str(MINI_MODEL)), Random(0)
    lines = []
    for number in range(N_ROWS):
        solution = "1" * min(int(90 + random.expovariate(1 / 100)), 440)
        problem = Problem(number, "x" * random.randint(20, 60), solution, 1)
        assert 100 < len(tokenize_example(tokenizer, problem)) <= 512
        lines.append(json.dumps({"query": problem.question, "response": solution}))
    return write_lines(tmp_path_factory.mktemp("rows") / "data.jsonl", lines)


def write_model(folder: Path, name: str) -> Path:
    """Write the tokenizer of the miniature and the config of ``name``."""
    numbers = dict(zip(SHAPE, MODELS[name][0], strict=True))
    tied = {"tie_word_embeddings": name in ("llama3_2_1b", "smollm2_135m", "mini")}
    for path in MINI_MODEL.glob("*token*"):
        shutil.copy(path, folder)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | numbers | tied
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def words_of(name: str, *arguments: object) -> list[str]:
    """Return the options that the launcher of a recipe gives to train.py."""
    launcher = [LAUNCHERS[name]] if name in LAUNCHERS else ["train.sh", name]
    result = run_script(
        f"scripts/{launcher[0]}", *launcher[1:], *arguments, launcher=("bash",),
        LAUNCHER="echo", NODE_RANK="0", MASTER_ADDR="node0",
    )  # fmt: skip
    return result.stdout.partition(f"{ROOT}/train.py ")[2].split()


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_of_a_recipe(
    name: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Ranks, accumulation, 128 examples, schedule and memory; a run that does not fit is
    refused."""
    _, n_weights, n_gpus = MODELS[name]
    model = write_model(tmp_path, name)
    words = words_of(name, rows, tmp_path / "out", 3, "--model_name_or_path", model, "--dry_run")
    run_here(monkeypatch, [*words, "--gpu_memory_gib", "80"])
    printed = capsys.readouterr().out
    batch = {"mini": 16, "smollm2_135m": 8}.get(name, 128)
    n_steps = 3 * N_ROWS // batch

    def row(pattern: str) -> tuple[str, ...]:
        found = re.search(pattern, printed)
        assert found, f"{pattern} is not in\n{printed}"
        return found.groups()

    row(rf"plan for --world_size {n_gpus} --sharding")
    row(rf"steps +{n_steps} of {batch} examples\n")
    least, most, mean = row(r"examples +(\d+) to (\d+) \(mean ([\d.]+)\) per rank and step")
    assert int(least) >= 1
    assert float(mean) == batch / n_gpus
    (accumulation,) = row(r"micro-batches +(?:\d+ to )?(\d+) per rank")
    budget = 2048 if n_gpus > 8 or name == "smollm2_135m" else 4096
    (largest,) = row(r"\d+ to ([\d,]+) \(mean [\d.,]+\) per micro-batch")
    assert int(largest.replace(",", "")) <= budget
    assert int(accumulation) <= int(most)
    row(f"model +{n_weights:,} weights")
    first, warmed, warm_up, last = row(
        r"learning rate +(\S+) at first, (\S+) after (\d+) steps? of warm-up, (\S+) in the last"
    )
    highest = {"mini": 2e-3, "smollm2_135m": 1e-4}.get(name, 2e-5)
    assert (float(first), float(warmed)) == (0, highest)
    assert int(warm_up) == -(-3 * n_steps // 100)  # 3%, rounded up
    assert float(last) < 0.1 * highest
    (peak,) = row(r"peak +([\d.]+) of 80 ")
    assert float(peak) <= 78


@pytest.mark.parametrize(
    ("n_gpus", "message"),
    [(8, r"of 80, .* would fit: .*--world_size 16"),  # a quarter of the published number
     (129, "128 examples per step cannot be divided among 129 processes")],
)  # fmt: skip
def test_too_few_or_too_many_gpus_are_refused(
    n_gpus: int, message: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path, "llama2_70b")
    words = words_of(
        "llama2_70b", rows, tmp_path / "out", 3, "--model_name_or_path", model,
        "--dry_run", "--world_size", n_gpus, "--gpu_memory_gib", 80,
    )  # fmt: skip
    with pytest.raises(UserError, match=message):
        run_here(monkeypatch, words)


def test_a_model_without_weights_can_be_planned_but_not_trained(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path, "mini")
    words = words_of("mini", rows, tmp_path / "out", 3, "--model_name_or_path", model)
    with pytest.raises(UserError, match="no weights"):
        run_here(monkeypatch, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_a_config_is_the_published_recipe(name: str) -> None:
    """And a model is named after its config, so no two configs train the same one."""
    assert (CONFIGS / f"{name}.yaml").read_text().startswith("# ")
    path = str(CONFIGS / f"{name}.yaml")
    config = parse_config(TrainConfig, ["--config", path, "--data_path=d", "--output_dir=o"])
    assert config.world_size == MODELS[name][2]
    start = ALONE if config.world_size == 1 else several(max(1, config.world_size // 8), 0)
    settings = {"NODE_RANK": "0", "MASTER_ADDR": "h"}
    assert launch(f"train.sh {name} d o 3", settings) == (0, runs(start, name) + "\n", "")
    if "llama" in name:
        recipe = (config.learning_rate, config.num_train_epochs, config.lr_scheduler_type)
        assert recipe == (2e-5, 3.0, "cosine")
        assert (config.warmup_ratio, config.weight_decay, config.precision) == (0.03, 0.0, "bf16")
        assert config.global_batch_size == 128
        words = name.replace("llama2", "llama_2").replace("llama3_2", "llama_3.2").split("_")
        hub_id = config.model_name_or_path.lower().replace("llama-30b", "llama-33b")  # Meta's 33B
        assert hub_id.split("/")[1].removesuffix("-hf") == "-".join(words)
    if name in GROUP_SIZES:
        assert (config.loss_group_size, config.sharding) == (GROUP_SIZES[name], "fsdp")
        large = config.world_size > 8
        assert config.gradient_checkpointing is large
        assert config.micro_batch_tokens == (2048 if large else 8192)
        assert config.save_precision == ("fp32" if "_7b" in name else "bf16")


def launch(command: str, settings: dict[str, str]) -> tuple[int, str, str]:
    """Return exit status, output and errors of a launcher that only prints its command."""
    script, *arguments = command.split()
    result = run_script(
        f"scripts/{script}", *arguments, launcher=("bash",), LAUNCHER="echo", **settings
    )
    return result.returncode, result.stdout, result.stderr


def as_settings(text: str) -> dict[str, str]:
    return dict(setting.split("=") for setting in text.split())


def runs(start: str, model: str, arguments: str = ARGUMENTS) -> str:
    """Return the command for a config's name, or for another model."""
    is_config = (CONFIGS / f"{model}.yaml").exists() and "/" not in model
    given = f"--config {CONFIGS}/{model}.yaml" if is_config else f"--model_name_or_path {model}"
    return f"{start} {ROOT}/train.py {given} {arguments}"


def several(nodes: int, rank: int, per_node: int = 8, address: str = "h", port: int = 29500) -> str:
    return (
        f"torchrun --nnodes {nodes} --nproc_per_node {per_node} --node_rank {rank}"
        f" --master_addr {address} --master_port {port}"
    )


@pytest.mark.parametrize(
    ("settings", "command", "expected"),
    [
        ("", "train.sh ./mini d o 3", runs(EIGHT, "./mini")),
        ("world_size=2", "train.sh org/model d o 3", runs(EIGHT, "org/model")),
        ("", "train.sh mini d o 0.5", runs(ALONE, "mini", f"{ARGUMENTS[:-1]}0.5")),
        ("", "train.sh mini d o 3 --seed 1 --output_dir p --num_train_epochs 2",
         runs(ALONE, "mini", f"{ARGUMENTS} --seed 1 --output_dir p --num_train_epochs 2")),
        ("", "train_7b.sh d o 3 --seed 1", runs(EIGHT, "llama_7b", f"{ARGUMENTS} --seed 1")),
        ("MODEL=llama2_7b", "train_7b.sh d o 3", runs(EIGHT, "llama2_7b")),
        ("MODEL=llama2_13b", "train_13b.sh d o 3", runs(EIGHT, "llama2_13b")),
        ("NODE_RANK=1 MASTER_ADDR=h", "train_30b.sh d o 3", runs(several(2, 1), "llama_33b")),
        ("NODE_RANK=3 MASTER_ADDR=h MASTER_PORT=7", "train_70b.sh d o 3",
         runs(several(4, 3, port=7), "llama2_70b")),
        # other numbers of GPUs
        ("NPROC_PER_NODE=2", "train.sh mini d o 3",
         runs("torchrun --standalone --nproc_per_node 2", "mini")),
        ("NNODES=1 NPROC_PER_NODE=1", "train_7b.sh d o 3", runs(ALONE, "llama_7b")),
        ("NNODES=1 NPROC_PER_NODE=4", "train_70b.sh d o 3",
         runs("torchrun --standalone --nproc_per_node 4", "llama2_70b")),
        ("NPROC_PER_NODE=3 NODE_RANK=2 MASTER_ADDR=h", "train_7b.sh d o 3",
         runs(several(3, 2, per_node=3), "llama_7b")),
        ("NPROC_PER_NODE=16", "train_7b.sh d o 3",
         runs("torchrun --standalone --nproc_per_node 16", "llama_7b")),
        ("NNODES=2 NODE_RANK=1 MASTER_ADDR=h", "train.sh llama3_2_1b d o 3",
         runs(several(2, 1, per_node=1), "llama3_2_1b")),
        # one machine, whose address the environment gives
        ("MASTER_ADDR=h NODE_RANK=5", "train_7b.sh d o 3", runs(several(1, 0), "llama_7b")),
        ("MASTER_PORT=7", "train_7b.sh d o 3", runs(EIGHT, "llama_7b")),
        ("MASTER_ADDR=h", "train.sh mini d o 3", runs(ALONE, "mini")),
    ],
)  # fmt: skip
def test_the_command_that_a_launcher_runs(settings: str, command: str, expected: str) -> None:
    assert launch(command, as_settings(settings)) == (0, expected + "\n", "")


@pytest.mark.parametrize(
    ("settings", "command", "message"),
    [
        ("NODE_RANK=0", "train_65b.sh d o 3", "on 4 machines: set NODE_RANK (0 to 3"),
        ("MASTER_ADDR=h", "train_65b.sh d o 3", "NODE_RANK (0 to 3"),
        ("MASTER_ADDR=h NODE_RANK=4", "train_65b.sh d o 3", "NODE_RANK (0 to 3"),
        ("MASTER_ADDR=h NODE_RANK=-1", "train_65b.sh d o 3", "NODE_RANK (0 to 3"),
        ("NPROC_PER_NODE=4", "train_7b.sh d o 3", "or NNODES=1 to train on this machine only"),
        ("NPROC_PER_NODE=0", "train_7b.sh d o 3", "NPROC_PER_NODE must be"),
        ("NPROC_PER_NODE=2.5", "train_7b.sh d o 3", "a positive whole number, not 2.5"),
        ("NNODES=1:2", "train_7b.sh d o 3", "NNODES must be a positive whole number, not 1:2"),
        ("", "train_7b.sh d o 3e", "EPOCHS must be a number, not 3e"),
        ("", "train_7b.sh d o .", "EPOCHS must be a number, not ."),
        ("", "train_7b.sh d o --seed 1", "EPOCHS must be a number, not --seed"),
        ("", "train.sh mini d --seed 1", "usage: bash "),
        ("", "train_7b.sh d o", "usage: bash "),
        ("", "train_13b.sh d o", "usage: bash "),
        ("", "train_30b.sh d o", "usage: bash "),
        ("", "train_65b.sh d o", "usage: bash "),
        ("", "train_70b.sh d o", "usage: bash "),
    ],
)
def test_a_launcher_refuses_in_one_line(settings: str, command: str, message: str) -> None:
    status, output, errors = launch(command, as_settings(settings))
    assert (status, output) == (2, "")
    assert errors.startswith(("error: ", "usage: "))
    assert message in errors
    assert errors.count("\n") == 1


def slurm_job(
    folder: Path, root: Path, srun: str, host: str, *arguments: str, **settings: str
) -> str:
    """Return what the job printed on two machines; ``srun`` is the body of its srun."""
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
    """Each machine gets its own rank, and the arguments as they were given."""
    odd = ("my data", "o'\"$(id)", "3", "--seed", "*")
    printed = slurm_job(
        tmp_path, ROOT, ONE_BY_ONE, "node1", "llama2_70b", *odd,
        LAUNCHER=r"printf %s\n", MASTER_PORT="7",
    )  # fmt: skip
    end = [
        f"{ROOT}/train.py", "--config", f"{CONFIGS}/llama2_70b.yaml", "--data_path", odd[0],
        "--output_dir", odd[1], "--num_train_epochs", "3", "--seed", "*",
    ]  # fmt: skip
    starts = [several(2, rank, 8, "node1", 7).split() for rank in (0, 1)]
    assert printed.splitlines() == starts[0] + end + starts[1] + end


@pytest.mark.slow
def test_the_slurm_job_with_a_real_torchrun(tmp_path: Path) -> None:
    """Two machines of two processes find each other; each process only prints its ranks."""
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
