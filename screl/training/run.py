"""Carry out a training run, from problems to a verified checkpoint, or its dry run."""

from dataclasses import replace
from typing import Any

from screl.core.config import show_config
from screl.core.cost import Stopwatch, training_flops
from screl.core.io import UserError, write_json
from screl.core.problems import Problem
from screl.core.run_info import PeakWatch, gpu, has_gpu, machine_memory_gib, write_run_info
from screl.core.shape import Shape, n_weights
from screl.models.loading import load_shape
from screl.models.prompts import make_prompt
from screl.models.tokenizer import describe_example
from screl.training.checkpoint import (
    bytes_to_write,
    check_disk,
    checkpoint_bytes,
    explain_full_disk,
    remove_old_checkpoints,
)
from screl.training.config import TrainConfig, planned_world_size, plans_for_gpus
from screl.training.cpu_plan import plan_on_cpu
from screl.training.data import TrainingData, load_training_data
from screl.training.engine import make_training_engine
from screl.training.export import save_and_verify
from screl.training.loop import TrainingLog, fine_tune
from screl.training.memory import peak_moment
from screl.training.model import has_liger
from screl.training.plan import GIB, RESERVED_GIB, check_fits, describe_plan, plan_run
from screl.training.processes import (
    counted,
    end_processes,
    is_main_process,
    patience,
    say,
    start_processes,
    world_size,
)
from screl.training.trial import refuse_long_rows, try_architecture


def dry_run(config: TrainConfig, problems: list[Problem], identity: dict[str, Any]) -> None:
    """Print the options, the first row, and the plan; raise UserError if the run would not fit."""
    print(show_config(config))
    n_processes = planned_world_size(config)
    tokenizer, data = load_training_data(config, problems, identity, n_processes)
    by_id = {problem.problem_id: problem for problem in problems}
    first = by_id[data.problem_ids[0]]
    row = make_prompt(tokenizer, config.prompt_choice).row_text(first)
    print(describe_example(tokenizer, first, data.examples[0], config.verbose, row))
    refuse_long_rows(config.model_name_or_path, max(map(len, data.examples)))
    print(f"architecture: {try_architecture(config.model_name_or_path)}")
    shape = load_shape(config.model_name_or_path)
    if shape.approximate:
        print("memory and time are approximate: those of a LLaMA with as many weights")
    plan = plan_run(config, shape, data, n_processes)
    memory_gib, tflops = gpu()
    memory_gib, tflops = config.gpu_memory_gib or memory_gib, config.gpu_tflops or tflops
    cpu = None
    if on_cpu := not plans_for_gpus(config) and not has_gpu():
        memory_gib = machine_memory_gib() / n_processes
        need = peak_moment(plan.workload(on_cpu)).total / GIB
        cpu = plan_on_cpu(config, tokenizer, data, n_processes, need <= memory_gib - RESERVED_GIB)
    print(describe_plan(plan, data, memory_gib, tflops, cpu))
    check_fits(config, shape, data, n_processes, memory_gib, on_cpu)


def train(
    config: TrainConfig, problems: list[Problem], identity: dict[str, Any], stopwatch: Stopwatch
) -> None:
    """Tokenize, fine-tune, save and verify; all processes must call this.

    ``identity`` is from ``run_identity``. Raises UserError if the data, the model or the disk space
    does not allow the run, if the training fails, or if the saved model is not the trained one.
    """
    tokenizer, data = load_training_data(config, problems, identity, world_size())
    refuse_long_rows(config.model_name_or_path, max(map(len, data.examples)))
    try_architecture(config.model_name_or_path)
    shape, n_steps = load_shape(config.model_name_or_path), len(data.steps)
    if is_main_process():  # which has made the folder
        check_disk(config.output_dir, bytes_to_write(config, n_weights(shape), n_steps))
    rows = counted(config.global_batch_size, "row")
    processes = counted(world_size(), "process", "processes")
    say(f"{counted(n_steps, 'step')} of {rows} on {processes}")
    if config.save_steps:
        size = checkpoint_bytes(n_weights(shape)) / 1e6
        say(
            f"a checkpoint to resume from takes {size:,.0f} MB: every {config.save_steps} steps "
            "and when interrupted, until the model is saved (--save_steps, --save_total_limit)"
        )
    device = start_processes()
    on_gpu = device.type == "cuda"
    if on_gpu:
        _warn_if_too_large(config, shape, data)
    watch = PeakWatch()
    with patience():
        engine = make_training_engine(config, tokenizer, device)
    if is_main_process():
        write_json(config.output_dir / "training.json", identity)
    log = fine_tune(config, engine, data, stopwatch)
    workload = plan_run(config, shape, data, world_size()).workload(not on_gpu, has_liger())
    measured, predicted = watch.end(), peak_moment(workload).total
    say(f"peak memory {measured / 2**20:,.0f} MiB, {predicted / 2**20:,.0f} predicted")
    counts = data.counts()
    results = counts | {
        "n_processes": world_size(),
        "numbers_held": engine.numbers_held(),
        "memory_mib": round(measured / 2**20),
        "predicted_memory_mib": round(predicted / 2**20),
    }
    with explain_full_disk(config.output_dir), patience():
        save_and_verify(
            engine, tokenizer, config.output_dir, config.save_precision, config.precision,
            config.prompt_choice,
        )  # fmt: skip
    n_tokens = counts["n_tokens"]
    cost = replace(log.device_time(), flops=training_flops(shape, n_tokens), tokens=n_tokens)
    if is_main_process():
        _finish(config, stopwatch, log, results | {"cost": cost})
        remove_old_checkpoints(config.output_dir, keep=0)  # 12 bytes per weight
    end_processes()


def _warn_if_too_large(config: TrainConfig, shape: Shape, data: TrainingData) -> None:
    """Warn where --dry_run would refuse, because the prediction may be wrong."""
    try:
        check_fits(config, shape, data, world_size(), config.gpu_memory_gib or gpu()[0])
    except UserError as error:
        say(f"warning: {error}")


def _finish(
    config: TrainConfig, stopwatch: Stopwatch, log: TrainingLog, results: dict[str, Any]
) -> None:
    """Write run.json, which marks a finished run, and print one line."""
    first, last = log.entries[0], log.entries[-1]
    results |= {
        "first_loss": first["loss"],
        "last_loss": last["loss"],
        "tokens_per_second": last["tokens_per_second"],
        "training_seconds": round(log.seconds(), 1),  # of all sessions, like the tokens
    }
    steps = counted(last["step"], "step")
    held_out = ""
    if evaluated := [entry for entry in log.entries if "eval_loss" in entry]:
        lowest = min(evaluated, key=lambda entry: entry["eval_loss"])
        results |= {
            "eval_loss": evaluated[-1]["eval_loss"],
            "lowest_eval_loss": lowest["eval_loss"],
            "lowest_eval_step": lowest["step"],
        }
        held_out = f", held-out loss {evaluated[-1]['eval_loss']:.4f}"
        if lowest is not evaluated[-1]:
            held_out += f" (lowest: {lowest['eval_loss']:.4f} after step {lowest['step']})"
    write_run_info(config.output_dir / "run.json", config, stopwatch.started, results)
    print(f"{config.output_dir}: trained {steps}, last loss {last['loss']:.4f}{held_out}")
