"""SFT and RFT: full fine-tuning of a causal LM on {"query", "response"} rows.

    python train.py --model_name_or_path M --data_path data/train_use.jsonl --output_dir OUT
    torchrun --nproc_per_node 8 train.py --model_name_or_path M --data_path ... --output_dir OUT
    python train.py ... --dry_run --world_size 32    # what 32 GPUs would do, and whether it fits
    python train.py --doctor M                       # what M is fed and generates, and what is odd

The defaults are the published recipe (arXiv 2308.01825, A.1). A killed run goes on from its last
checkpoint when the same command is given again; a finished one is left as it is.
"""

import sys
from typing import Any

from screl.core.config import parse_config, run_main, show_config
from screl.core.cost import Cost, Stopwatch, cost_to_json
from screl.core.io import UserError, locked, write_json
from screl.core.problems import Problem, load_problems
from screl.core.run_info import PeakWatch, write_run_info
from screl.training.checkpoint import is_finished, run_identity
from screl.training.config import DoctorConfig, TrainConfig, check_options, processes_planned
from screl.training.processes import (
    end_processes,
    is_main_process,
    say,
    start_processes,
    world_size,
)

IN_USE = (
    "another train.py writes there; wait for its end, or end all its processes (workers can "
    "outlive a torchrun that was killed)"
)


def main() -> None:
    """Load, train, save, say where."""
    if any(word.split("=")[0] == "--doctor" for word in sys.argv[1:]):
        consult_doctor(parse_config(DoctorConfig, doc=__doc__).doctor)
        return
    config = parse_config(TrainConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check_options(config)
    problems = load_problems(config.data_path)
    identity = run_identity(config)
    if config.dry_run:
        rehearse(config, problems, identity)
        return
    if is_finished(config.output_dir, identity):
        if is_main_process():
            print(f"{config.output_dir}: already trained with this config and data")
        return
    if not is_main_process():
        train(config, problems, identity, stopwatch)
        return
    with locked(config.output_dir, IN_USE):
        train(config, problems, identity, stopwatch)


def rehearse(config: TrainConfig, problems: list[Problem], identity: dict[str, Any]) -> None:
    """Print the config, the first row and what the run would need; UserError if it will not fit."""
    from screl.core.run_info import gpu
    from screl.models.loading import load_shape
    from screl.models.tokenizer import describe_example
    from screl.training import plan
    from screl.training.data import prepare
    from screl.training.fitting import refuse_misfit

    print(show_config(config))
    tokenizer, data = prepare(config, problems, identity, processes_planned(config))
    by_id = {problem.problem_id: problem for problem in problems}
    print(describe_example(tokenizer, by_id[data.problem_ids[0]], data.examples[0]))
    shape, n_processes = load_shape(config.model_name_or_path), processes_planned(config)
    own_memory, own_tflops = gpu()
    memory_gib = config.gpu_memory_gib or own_memory
    tflops = config.gpu_tflops or own_tflops
    print(plan.describe_plan(config, shape, data, n_processes, memory_gib, tflops))
    refuse_misfit(config, shape, data, n_processes, memory_gib)


def train(
    config: TrainConfig, problems: list[Problem], identity: dict[str, Any], stopwatch: Stopwatch
) -> None:
    """Tokenize, fine-tune and save."""
    from screl.core.cost import training_flops
    from screl.core.shape import n_weights
    from screl.models.loading import load_shape
    from screl.training.checkpoint import (
        bytes_to_write,
        check_disk,
        full_disk_explained,
        remove_old,
    )
    from screl.training.data import prepare
    from screl.training.export import save_and_verify
    from screl.training.loop import build_engine, fine_tune, predicted_peak

    tokenizer, data = prepare(config, problems, identity, world_size())
    shape, n_steps = load_shape(config.model_name_or_path), len(data.steps)
    if is_main_process():  # which has made the folder
        check_disk(config.output_dir, bytes_to_write(config, n_weights(shape), n_steps))
    say(f"{n_steps} steps of {config.global_batch_size} rows on {world_size()} processes")
    device = start_processes()
    if device.type == "cuda":
        warn_of_misfit(config, data)
    watch = PeakWatch()
    engine = build_engine(config, tokenizer, device)
    if is_main_process():
        write_json(config.output_dir / "training.json", identity)
    log = fine_tune(config, engine, data, stopwatch)
    measured, predicted = watch.end(), predicted_peak(config, data, device)
    say(f"peak memory {measured / 2**20:,.0f} MiB, {predicted / 2**20:,.0f} predicted")
    counts = data.counts() | {
        "n_processes": world_size(),
        "numbers_held": engine.numbers_held(),
        "memory_mib": round(measured / 2**20),
        "predicted_memory_mib": round(predicted / 2**20),
    }
    with full_disk_explained(config.output_dir):
        save_and_verify(
            engine, tokenizer, config.output_dir, config.save_precision, config.precision
        )
    n_tokens = data.counts()["n_tokens"]
    cost = Cost(training_flops(shape, n_tokens), n_tokens, log.device_time())
    if is_main_process():
        finish(config, stopwatch, log, counts | {"cost": cost_to_json(cost)})
        remove_old(config.output_dir, keep=0)  # 12 bytes a weight
    end_processes()


def warn_of_misfit(config: TrainConfig, data: Any) -> None:
    """Say what --dry_run would refuse: the prediction may be wrong, and the run will show it."""
    from screl.core.run_info import gpu
    from screl.models.loading import load_shape
    from screl.training.fitting import refuse_misfit

    try:
        refuse_misfit(
            config, load_shape(config.model_name_or_path), data, world_size(),
            config.gpu_memory_gib or gpu()[0],
        )  # fmt: skip
    except UserError as error:
        say(f"warning: {error}")


def finish(config: TrainConfig, stopwatch: Stopwatch, log: Any, counts: dict[str, Any]) -> None:
    """Write run.json, the mark of a finished run, and say what was done."""
    first, last = log.entries[0], log.entries[-1]
    results = counts | {
        "first_loss": first["loss"],
        "last_loss": last["loss"],
        "tokens_per_second": last["tokens_per_second"],
        "training_seconds": round(log.seconds(), 1),  # of all sessions, as tokens are
    }
    write_run_info(config.output_dir / "run.json", config, stopwatch.started, results)
    print(f"{config.output_dir}: trained {last['step']} steps, last loss {last['loss']:.4f}")


def consult_doctor(name: str) -> None:
    """Print what the doctor finds; exit status 1 if something does not fit together."""
    from screl.models.doctor import examine

    report, mismatches = examine(name)
    print(report)
    if mismatches:
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
