"""What a training run would do on so many GPUs, worked out on one CPU: ``--dry_run``.

The steps are divided by the same ``plan_step`` as in training, and the memory is that of ``memory``
for the largest micro-batch of any process.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING

from screl.core.shape import Shape, n_weights
from screl.training.config import TrainConfig
from screl.training.memory import TERMS, Memory, TrainingProcess, host_memory, moments, worst
from screl.training.packing import plan_step
from screl.training.schedule import schedule

if TYPE_CHECKING:
    from screl.training.data import TrainingData


GIB = 2**30
MOST_STEPS = 1000  # that are divided; about a millisecond each
UTILISATION = 0.4  # of a GPU's peak; what full fine-tuning usually reaches on A100s


@dataclass(frozen=True)
class Plan:
    """How the steps of a run are divided; a number for every step, rank or micro-batch."""

    n_steps: int
    steps: list[int]  # tokens of every step that was looked at
    ranks: list[int]  # tokens of every rank in those
    examples: list[int]  # of every rank
    micro_batches: list[int]  # tokens of each
    accumulation: list[int]  # micro-batches of a rank, for every step
    balance: float  # mean over steps of the mean over the most tokens of a rank
    most_targets: int  # with loss, in a micro-batch
    most_squares: int  # sum of tokens^2 over a micro-batch's examples


def make_plan(config: TrainConfig, data: "TrainingData", n_processes: int, most: int) -> Plan:
    """Divide all steps, or ``most`` evenly spread ones; UserError if one cannot be."""
    n_steps = len(data.steps)
    chosen = sorted({at * n_steps // most for at in range(most)}) if n_steps > most else None
    plan = Plan(n_steps, [], [], [], [], [], 1.0, 1, 1)
    balances, targets, squares = [], [1], [1]
    for step in chosen or range(n_steps):
        examples = [data.examples[row] for row in data.steps[step]]
        lengths = [len(example) for example in examples]
        divided = plan_step(lengths, n_processes, config.micro_batch_tokens)
        parts = [part for rank in divided for part in rank if part]
        by_rank = [sum(lengths[at] for part in rank for at in part) for rank in divided]
        plan.steps.append(sum(lengths))
        plan.ranks.extend(by_rank)
        plan.examples.extend(sum(map(len, rank)) for rank in divided)
        plan.micro_batches.extend(sum(lengths[at] for at in part) for part in parts)
        plan.accumulation.append(len(divided[0]))
        balances.append(mean(by_rank) / max(by_rank))
        targets.extend(sum(examples[at].n_targets for at in part) for part in parts)
        squares.extend(sum(lengths[at] ** 2 for at in part) for part in parts)
    return replace(
        plan, balance=mean(balances), most_targets=max(targets), most_squares=max(squares)
    )


def run_of(
    config: TrainConfig, shape: Shape, plan: Plan, n_processes: int, **device: bool
) -> TrainingProcess:
    """What decides the memory of a process; ``on_cpu`` and ``liger`` as in ``TrainingProcess``."""
    return TrainingProcess(
        shape, config.sharding, n_processes, config.precision, max(plan.micro_batches),
        plan.most_targets, config.gradient_checkpointing, max(plan.accumulation),
        plan.most_squares, **device,
    )  # fmt: skip


def predict_run(
    config: TrainConfig, shape: Shape, data: "TrainingData", n_processes: int, *,
    most: int = MOST_STEPS, **device: bool,
) -> Memory:  # fmt: skip
    """The worst moment of a process of this run, from all or ``most`` steps."""
    return worst(
        run_of(config, shape, make_plan(config, data, n_processes, most), n_processes, **device)
    )


def describe_plan(
    config: TrainConfig, shape: Shape, data: "TrainingData", n_processes: int,
    memory_gib: float, tflops: float,
) -> str:  # fmt: skip
    """The text to print: what would be done, held and needed. Whether it fits, see ``remedies``."""
    plan = make_plan(config, data, n_processes, MOST_STEPS)
    looked = f", of which {len(plan.steps)} are looked at" * (len(plan.steps) < plan.n_steps)
    rows = [
        ("steps", f"{plan.n_steps:,} of {config.global_batch_size} examples{looked}"),
        ("examples", f"{describe_spread(plan.examples)} a rank and step"),
        ("tokens", f"{describe_spread(plan.steps)} a step"),
        ("", f"{describe_spread(plan.ranks)} a rank and step"),
        ("", f"{describe_spread(plan.micro_batches)} a micro-batch, none of them padding"),
        ("micro-batches", f"{span(plan.accumulation)} a rank and step"),
        ("balance", f"{plan.balance:.1%}: mean over most tokens of a rank"),
        *held_rows(config, shape, n_processes),
        *memory_rows(run_of(config, shape, plan, n_processes), memory_gib, config.save_precision),
        *time_rows(config, shape, data, n_processes, plan, tflops),
        ("learning rate", schedule(config, plan.n_steps)),
    ]
    title = (
        f"rehearsal of --world_size {n_processes} --sharding {config.sharding}, {config.precision}"
    )
    return "\n".join([title, *(f"  {label:16}{text}".rstrip() for label, text in rows)])


def describe_spread(numbers: Sequence[int]) -> str:
    """Least, mean and most."""
    return f"{min(numbers):,} to {max(numbers):,} (mean {mean(numbers):,.1f})"


def span(numbers: Sequence[int]) -> str:
    """Least and most."""
    least, most = min(numbers), max(numbers)
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def held_rows(config: TrainConfig, shape: Shape, n_processes: int) -> list[tuple[str, str]]:
    """What a rank keeps of weights, gradients and Adam's moments: numbers, each of 4 bytes."""
    total = n_weights(shape)
    part = -(-total // n_processes)
    held = total if config.sharding in ("none", "ddp") else part
    rows = [
        ("model", f"{total:,} weights"),
        ("held a rank", f"{held:,} weights, as many gradients, {2 * held:,} of the optimizer"),
        ("", f"{4 * held / GIB:.2f}, {4 * held / GIB:.2f} and {8 * held / GIB:.2f} GiB in float32"),
    ]
    if config.sharding == "zero2":
        rows.append(("", f"and all {total:,} weights in {config.precision}"))
    if config.sharding.startswith("zero3"):
        rows.append(("", f"and {part:,} weights in {config.precision}"))
    return rows


def memory_rows(
    run: TrainingProcess, memory_gib: float, save_precision: str
) -> list[tuple[str, str]]:
    """The predicted memory at every moment by its terms, in GiB."""
    every = moments(run)
    highest = worst(run).total / GIB
    rows = [("memory, GiB", " ".join(f"{memory.moment:>16}" for memory in every))]
    for term in (*TERMS, "total"):
        numbers = (getattr(memory, term) / GIB for memory in every)
        rows.append((f"  {term}", " ".join(f"{number:16.2f}" for number in numbers)))
    rows.append(("  peak", f"{highest:.2f} of {memory_gib:g} ({highest / memory_gib:.0%})"))
    if host := host_memory(run) / GIB:
        whose = "every" if run.sharding.startswith("zero") else "the first"
        when = "" if run.sharding == "zero3_offload" else " while the model is read"
        rows.append(("  of the host", f"{host:.2f} for {whose} process{when}"))
    saved = (2 if save_precision == "bf16" else 4) * run.n_weights / GIB
    rows.append(("  of the host", f"{saved:.2f} for the first process while the model is saved"))
    return rows


def flops(shape: Shape, data: "TrainingData", gradient_checkpointing: bool) -> float:
    """Floating-point operations of the whole run.

    Of a row 6 (W tokens + hidden vocabulary targets) + 6 layers heads width tokens^2, where W are
    the weights in the matrices of all layers: attention for the half that is not masked, the head
    for the targets only, the embedding not at all. Checkpointing runs the layers' forward pass,
    a third of it, twice.
    """
    per_token = shape.num_hidden_layers * shape.layer_matrices
    per_square = shape.num_hidden_layers * shape.query_width
    rows = [data.examples[row] for step in data.steps for row in step]
    layers = sum(per_token * len(row) + per_square * len(row) ** 2 for row in rows)
    head = sum(shape.embedding * row.n_targets for row in rows)
    return 6 * (layers * (4 / 3 if gradient_checkpointing else 1) + head)


def traffic(run: TrainingProcess) -> float:
    """Bytes a process sends, and as many it gets, for one micro-batch; the latencies not counted.

    fsdp and zero3 gather the weights twice and reduce the gradients once; reducing without
    dividing, as ddp and zero2 do, is twice as much. torch reduces float32, DeepSpeed the width.
    """
    if run.world_size == 1:
        return 0
    gathers = {"ddp": 0, "zero2": 0}.get(run.sharding, 2)
    reduced = run.width if run.sharding.startswith("zero") else 4
    share = 1 - 1 / run.world_size
    return share * n_weights(run.shape) * (gathers * run.width + reduced * (1 if gathers else 2))


def time_rows(
    config: TrainConfig, shape: Shape, data: "TrainingData", n_processes: int, plan: Plan,
    tflops: float,
) -> list[tuple[str, str]]:  # fmt: skip
    """How long it takes if GPUs reach ``UTILISATION`` and all wait for the one with most tokens."""
    work = flops(shape, data, config.gradient_checkpointing)
    hours = work / (n_processes * tflops * 1e12 * UTILISATION * plan.balance) / 3600
    sent = traffic(run_of(config, shape, plan, n_processes)) * mean(plan.accumulation)
    slower = "" if config.precision == "bf16" else "; fp32 takes several times as long"
    each = hours * 3600 / plan.n_steps
    rows = [
        ("work", f"{work:.3g} FLOPs"),
        ("time", f"{hours:.2f} h ({each:.1f} s a step), {hours * n_processes:.1f} GPU hours"),
        ("", f"assumed: {UTILISATION:.0%} of the {tflops:g} bf16 TFLOPS of a GPU{slower}"),
    ]
    if sent:
        rate = f"{sent / 1e9:,.1f} GB a step, {sent / 1e9 / each:,.1f} GB/s"
        rows.append(("", f"and a network that brings each process {rate}"))
    if config.sharding == "zero3_offload":
        rows.append(("", "it takes longer: Adam runs on the host's CPUs"))
    return rows
