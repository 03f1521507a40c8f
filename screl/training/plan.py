"""Plan a run on any number of GPUs, or on this machine, and name options that would fit.

Steps are divided by the same ``plan_step`` as in training, and the memory is that predicted by
``memory`` for the largest micro-batch of any process.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import mean
from typing import Any

from screl.core.io import UserError
from screl.core.shape import Shape, n_weights
from screl.training.config import TrainConfig
from screl.training.cpu_plan import CpuPlan, cpu_time_rows
from screl.training.data import TrainingData
from screl.training.memory import TERMS, Workload, memory_moments, peak_moment
from screl.training.packing import plan_step
from screl.training.processes import counted
from screl.training.schedule import describe_schedule

GIB = 2**30
MOST_STEPS = 1000  # steps to divide; each takes about a millisecond
UTILIZATION = 0.4  # share of a GPU's peak that full fine-tuning usually reaches on A100s
RESERVED_GIB = 2.0  # per GPU, for the CUDA context, NCCL and memory fragmentation
MOST_CHANGES = 4  # number of fitting changes to name
STEPS_TRIED = 20  # steps to divide for each change


@dataclass(frozen=True)
class RunPlan:
    """The division of a run's steps: numbers per step, per rank and per micro-batch."""

    config: TrainConfig
    shape: Shape
    n_processes: int
    n_steps: int
    step_tokens: list[int]  # of the steps that were divided
    rank_tokens: list[int]
    rank_examples: list[int]
    micro_batch_tokens: list[int]
    accumulation: list[int]  # micro-batches per rank in every step
    balance: float  # mean tokens per rank / most tokens of a rank, averaged over steps
    most_targets: int  # with loss, in a micro-batch
    most_squares: int  # sum of tokens^2 over a micro-batch's examples

    def workload(self, on_cpu: bool = False, liger: bool = False) -> Workload:
        """Return the workload of the process with the largest micro-batch."""
        return Workload(
            self.shape, self.config.sharding, self.n_processes, self.config.precision,
            max(self.micro_batch_tokens), self.most_targets, self.config.gradient_checkpointing,
            max(self.accumulation), self.most_squares, on_cpu, liger,
        )  # fmt: skip


def plan_run(
    config: TrainConfig, shape: Shape, data: TrainingData, n_processes: int, most: int = MOST_STEPS
) -> RunPlan:
    """Divide all steps, or ``most`` evenly spaced ones; raise UserError if that is impossible."""
    n_steps = len(data.steps)
    chosen = sorted({at * n_steps // most for at in range(most)}) if n_steps > most else None
    plan = RunPlan(config, shape, n_processes, n_steps, [], [], [], [], [], 1.0, 1, 1)
    balances, targets, squares = [], [1], [1]
    for step in chosen or range(n_steps):
        examples = [data.examples[row] for row in data.steps[step]]
        lengths = [len(example) for example in examples]
        divided = plan_step(lengths, n_processes, config.micro_batch_tokens)
        parts = [part for rank in divided for part in rank if part]
        by_rank = [sum(lengths[at] for part in rank for at in part) for rank in divided]
        plan.step_tokens.append(sum(lengths))
        plan.rank_tokens.extend(by_rank)
        plan.rank_examples.extend(sum(map(len, rank)) for rank in divided)
        plan.micro_batch_tokens.extend(sum(lengths[at] for at in part) for part in parts)
        plan.accumulation.append(len(divided[0]))
        balances.append(mean(by_rank) / max(by_rank))
        targets.extend(sum(examples[at].n_targets for at in part) for part in parts)
        squares.extend(sum(lengths[at] ** 2 for at in part) for part in parts)
    return replace(
        plan, balance=mean(balances), most_targets=max(targets), most_squares=max(squares)
    )


def check_fits(
    config: TrainConfig, shape: Shape, data: TrainingData, n_processes: int, memory_gib: float,
    on_cpu: bool = False,
) -> None:  # fmt: skip
    """Raise UserError, naming what would fit, if a process needs more than ``memory_gib``."""
    need = peak_moment(plan_run(config, shape, data, n_processes).workload(on_cpu)).total
    room = (memory_gib - RESERVED_GIB) * GIB
    if need <= room:
        return
    fitting = list(what_fits(config, shape, data, n_processes, room, on_cpu))
    advice = f"would fit: {', '.join(fitting)}" if fitting else "nothing that was tried would fit"
    raise UserError(
        f"--sharding {config.sharding} --world_size {n_processes} needs {need / GIB:.1f} GiB of "
        f"{memory_gib:.4g}, of which {RESERVED_GIB:g} stay free; {advice}"
    )


def what_fits(
    config: TrainConfig, shape: Shape, data: TrainingData, n_processes: int, room: float,
    on_cpu: bool = False,
) -> Iterator[str]:  # fmt: skip
    """Yield changes of the options, cheapest first, that keep a process below ``room`` bytes.

    Two or three changes together are tried only if no single one is enough.
    """
    found = 0
    single = list(_changes(config, n_processes, on_cpu))
    for size in (1, 2, 3):
        for several in combinations(single, size):
            change = {key: value for one in several for key, value in one.items()}
            if len(change) < sum(map(len, several)):  # two values for one option
                continue
            changed, processes = replace(config, **change), change.get("world_size", n_processes)
            try:
                workload = plan_run(changed, shape, data, processes, STEPS_TRIED).workload(on_cpu)
            except UserError:  # a row is longer than a micro-batch, or there are too few rows
                continue
            need = peak_moment(workload).total
            if need <= room:
                options = " ".join(
                    f"--{name}" if value is True else f"--{name} {value}"
                    for name, value in change.items()
                )
                host = workload.host_memory if changed.sharding == "zero3_offload" else 0
                note = f" and {host / GIB:.0f} of the host for each process" if host else ""
                yield f"{options} ({need / GIB:.1f} GiB{note})"
                found += 1
            if found == MOST_CHANGES:
                return
        if found:
            return


def _changes(config: TrainConfig, n_processes: int, on_cpu: bool) -> Iterator[dict[str, Any]]:
    """Yield changes of the options that reduce memory, cheapest first."""
    if n_processes > 1 and config.sharding in ("ddp", "zero2"):
        yield {"sharding": "fsdp" if config.sharding == "ddp" else "zero3"}
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    yield {"micro_batch_tokens": config.micro_batch_tokens // 2}
    yield {"micro_batch_tokens": config.micro_batch_tokens // 4}
    if on_cpu:  # where processes share the memory
        return
    if config.sharding != "zero3_offload":
        yield {"sharding": "zero3_offload"}
    sharded = {"sharding": "fsdp"} if config.sharding in ("none", "ddp") else {}
    yield sharded | {"world_size": n_processes * 2}
    yield sharded | {"world_size": n_processes * 4}


def describe_plan(
    plan: RunPlan, data: TrainingData, memory_gib: float, tflops: float, cpu: CpuPlan | None = None
) -> str:
    """Return the text that --dry_run prints: steps, memory, time and learning rate.

    ``memory_gib`` is that of a process. With ``cpu``, the plan is for this machine without a GPU.
    """
    config = plan.config
    divided = f", {len(plan.step_tokens):,} of them divided here"
    examples = counted(config.global_batch_size, "example")
    rows = [
        ("steps", f"{plan.n_steps:,} of {examples}"
                  + divided * (len(plan.step_tokens) < plan.n_steps)),
        ("examples", f"{_spread(plan.rank_examples)} per rank and step"),
        ("tokens", f"{_spread(plan.step_tokens)} per step"),
        ("", f"{_spread(plan.rank_tokens)} per rank and step"),
        ("", f"{_spread(plan.micro_batch_tokens)} per micro-batch, none of them padding"),
        ("micro-batches", f"{_range(plan.accumulation)} per rank and step"),
        ("balance", f"{plan.balance:.1%}: mean over most tokens of a rank"),
        *_held_rows(plan),
        *_memory_rows(plan, memory_gib, cpu is not None),
        *(
            cpu_time_rows(cpu, data.counts()["n_tokens"], plan.n_steps)
            if cpu
            else _time_rows(plan, data, tflops)
        ),
        ("learning rate", describe_schedule(config, plan.n_steps)),
    ]  # fmt: skip
    title = f"plan for --world_size {plan.n_processes} --sharding {config.sharding}"
    if cpu:
        processes = counted(plan.n_processes, "process", "processes")
        title = f"plan for this machine without a GPU, {os.cpu_count()} cores, {processes}"
    title += f", {config.precision}"
    if cpu:
        title += "; for a GPU: --gpu_memory_gib 80"
    return "\n".join([title, *(f"  {label:16}{text}".rstrip() for label, text in rows)])


def _spread(numbers: Sequence[int]) -> str:
    return f"{min(numbers):,} to {max(numbers):,} (mean {mean(numbers):,.1f})"


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _held_rows(plan: RunPlan) -> list[tuple[str, str]]:
    """Describe the weights, gradients and Adam moments that a rank holds, 4 bytes each."""
    sharding, precision = plan.config.sharding, plan.config.precision
    total = n_weights(plan.shape)
    part = -(-total // plan.n_processes)
    held = total if sharding in ("none", "ddp") else part
    rows = [
        ("model", f"{total:,} weights"),
        ("held per rank", f"{held:,} weights, as many gradients, {2 * held:,} of the optimizer"),
        ("", f"{4 * held / GIB:.2f}, {4 * held / GIB:.2f} and {8 * held / GIB:.2f} GiB in float32"),
    ]
    if sharding.startswith("zero"):
        copied = f"all {total:,}" if sharding == "zero2" else f"{part:,}"
        rows.append(("", f"and {copied} weights in {precision}"))
    return rows


def _memory_rows(plan: RunPlan, memory_gib: float, on_cpu: bool) -> list[tuple[str, str]]:
    """Describe the predicted memory at every moment, by its terms, in GiB."""
    workload, sharding = plan.workload(on_cpu), plan.config.sharding
    moments, peak = memory_moments(workload), peak_moment(workload).total / GIB
    rows = [("memory, GiB", " ".join(f"{memory.moment:>16}" for memory in moments))]
    for term in (*TERMS, "total"):
        numbers = (getattr(memory, term) / GIB for memory in moments)
        rows.append((f"  {term}", " ".join(f"{number:16.2f}" for number in numbers)))
    rows.append(("  peak", f"{peak:.2f} of {memory_gib:.4g} ({peak / memory_gib:.0%})"))
    if on_cpu:
        return rows
    if host := workload.host_memory / GIB:
        when = "" if sharding == "zero3_offload" else " while safetensors are read"
        rows.append(("  of the host", f"{host:.2f} for every process{when}"))
    saved = (2 if plan.config.save_precision == "bf16" else 4) * workload.n_weights / GIB
    rows.append(("  of the host", f"{saved:.2f} for the first process while the model is saved"))
    return rows


def _time_rows(plan: RunPlan, data: TrainingData, tflops: float) -> list[tuple[str, str]]:
    """Describe the time, assuming ``UTILIZATION`` and that all wait for the slowest rank."""
    config = plan.config
    work = run_flops(plan.shape, data, config.gradient_checkpointing)
    hours = work / (plan.n_processes * tflops * 1e12 * UTILIZATION * plan.balance) / 3600
    step_seconds = hours * 3600 / plan.n_steps
    slower = "" if config.precision == "bf16" else "; fp32 takes several times as long"
    rows = [
        ("work", f"{work:.3g} FLOPs"),
        ("time", f"{hours:.2f} h ({step_seconds:.1f} s per step), "
                 f"{hours * plan.n_processes:.1f} GPU hours"),
        ("", f"assuming {UTILIZATION:.0%} of a GPU's {tflops:g} bf16 TFLOPS{slower}"),
    ]  # fmt: skip
    times = 1 if config.sharding == "ddp" else mean(plan.accumulation)  # ddp: once a step
    if sent := traffic(plan.workload()) * times / 1e9:
        rate = f"{sent:,.1f} GB per step, {sent / step_seconds:,.1f} GB/s"
        rows.append(("", f"and a network that brings each process {rate}"))
    if config.sharding == "zero3_offload":
        rows.append(("", "it takes longer: Adam runs on the host's CPUs"))
    return rows


def run_flops(shape: Shape, data: TrainingData, gradient_checkpointing: bool) -> float:
    """Return the floating-point operations of the whole run.

    A row takes 6 (W tokens + hidden vocabulary targets) + 6 layers heads width tokens^2, where W is
    the number of weights in the matrices of all layers. Attention counts the half that is not
    masked, the head counts only the targets, and the embedding does not count. Checkpointing runs
    the layers' forward pass, a third of their work, twice.
    """
    per_token = shape.num_hidden_layers * shape.layer_matrices
    per_square = shape.num_hidden_layers * shape.query_width
    rows = [data.examples[row] for step in data.steps for row in step]
    layers = sum(per_token * len(row) + per_square * len(row) ** 2 for row in rows)
    head = sum(shape.embedding * row.n_targets for row in rows)
    return 6 * (layers * (4 / 3 if gradient_checkpointing else 1) + head)


def traffic(workload: Workload) -> float:
    """Return the bytes that a process sends per micro-batch; it receives as many.

    fsdp and zero3 gather the weights twice and reduce the gradients once; reducing without
    dividing, as ddp and zero2 do, takes twice as much. torch reduces in float32, DeepSpeed in the
    width of the arithmetic. Latency is not counted.
    """
    if workload.world_size == 1:
        return 0
    gathers = {"ddp": 0, "zero2": 0}.get(workload.sharding, 2)
    reduced = workload.width if workload.sharding.startswith("zero") else 4
    share = 1 - 1 / workload.world_size
    per_weight = gathers * workload.width + reduced * (1 if gathers else 2)
    return share * workload.n_weights * per_weight
