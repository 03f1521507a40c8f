"""Measure the host memory of one machine's training processes while they load and save a model.

    python benchmarks/measure_host_memory.py

Makes a random LLaMA, 273 million weights in float32, loads it as ``train.py`` does with 2 and with
4 processes without a GPU, and saves and verifies it. Prints the highest memory of all processes
together, as multiples of the stored checkpoint: "load", "ready" (the engine, with gradients and
Adam's moments if it allocates them before the first step) and "forward" (16 tokens for the final
check) above what the processes hold after their imports; "write" and "verify" above "ready".

Memory is the proportional set size (Linux): shared pages count once, pages of mapped files too.
glibc returns freed memory at once. The model itself counts here, and with GPUs is theirs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import ROOT, family, proportional_set_size

sys.path.insert(0, str(ROOT))

MODEL = ROOT / "data/mini/model"
PHASES = ("imported", "load", "ready", "settled", "forward", "write", "verify")
ENVIRONMENT = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20), "OMP_NUM_THREADS": "1"}
SIZES = {
    "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 20,
    "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 8192,
}  # fmt: skip


def main() -> None:
    """Measure all combinations and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sharding", nargs="+", default=["fsdp", "zero3"])
    parser.add_argument("--processes", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)  # in processes started here
    arguments = parser.parse_args()
    if arguments.worker:
        load_and_save(Path(arguments.worker[0]), arguments.worker[1], arguments.precision)
        return
    with tempfile.TemporaryDirectory() as folder:
        stored = make_model(Path(folder) / "model")
        print(f"stored checkpoint: {stored / 2**20:,.0f} MiB in float32, {arguments.precision}")
        print("sharding  processes  load  ready  forward  write  verify")
        for sharding in arguments.sharding:
            for n_processes in arguments.processes:
                peaks = measure(Path(folder), sharding, n_processes, arguments.precision)
                peaks["ready"] = max(peaks["ready"], peaks["settled"])
                before = [peaks["imported"]] * 3 + [peaks["settled"]] * 2
                after = [peaks[name] for name in ("load", "ready", "forward", "write", "verify")]
                times = [(end - start) / stored for end, start in zip(after, before, strict=True)]
                print(
                    f"{sharding:8}  {n_processes:9}  {times[0]:4.2f}  {times[1]:5.2f}  "
                    f"{times[2]:7.2f}  {times[3]:5.2f}  {times[4]:6.2f}",
                    flush=True,
                )


def make_model(folder: Path) -> int:
    """Save a random LLaMA with the miniature's tokenizer; return the bytes of its weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder)
    return 4 * int(model.num_parameters())


def measure(folder: Path, sharding: str, n_processes: int, precision: str) -> dict[str, int]:
    """Return the highest memory of all processes together in each phase, in bytes."""
    phase_file = folder / "phase"
    phase_file.write_text("starting")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc_per_node={n_processes}", __file__, "--precision", precision,
        "--worker", str(folder), sharding,
    ]  # fmt: skip
    launcher = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT)
    peaks = dict.fromkeys(("starting", *PHASES), 0)
    while launcher.poll() is None:
        phase = phase_file.read_text()
        workers = family(launcher.pid)[1:]  # without the launcher
        total = sum(map(proportional_set_size, workers))
        if phase_file.read_text() == phase:
            peaks[phase] = max(peaks[phase], total)
        time.sleep(0.05)
    if launcher.returncode:
        sys.exit(f"{' '.join(command)} failed with exit status {launcher.returncode}")
    return peaks


def load_and_save(folder: Path, sharding: str, precision: str) -> None:
    """Load and save the model as train.py does, and write down the phases."""
    import torch
    import torch.distributed as dist

    from screl.models.tokenizer import load_tokenizer
    from screl.training import export
    from screl.training.config import TrainConfig
    from screl.training.engine import load_trainable, make_training_engine
    from screl.training.processes import end_processes, is_main_process, start_processes

    def begin(phase: str) -> None:
        time.sleep(0.5)  # so that the last moments of the phase before are seen
        if is_main_process():
            (folder / "next").write_text(phase)
            (folder / "next").rename(folder / "phase")
        time.sleep(0.5)

    def announce(module: Any, name: str, phase: str) -> None:
        real = getattr(module, name)

        def announced(*arguments: Any, **settings: Any) -> Any:
            begin(phase)
            return real(*arguments, **settings)

        setattr(module, name, announced)

    device = start_processes()
    if sharding.startswith("zero"):
        from screl.training import deepspeed

        announce(deepspeed.deepspeed, "initialize", "ready")
    announce(export, "greedy_tokens", "forward")
    announce(export, "write_weights", "write")
    announce(export, "verify_checkpoint", "verify")
    settings: dict[str, Any] = {"sharding": sharding, "precision": precision}
    config = TrainConfig(str(folder / "model"), Path(), Path(), **settings)
    tokenizer = load_tokenizer(config.model_name_or_path)
    load_trainable(config, tokenizer, torch.device("meta"))
    begin("imported")
    dist.barrier()
    begin("load")
    engine = make_training_engine(config, tokenizer, device)
    begin("settled")
    export.save_and_verify(engine, tokenizer, folder / f"{sharding}-saved", "fp32", precision)
    begin("starting")
    end_processes()


if __name__ == "__main__":
    main()
