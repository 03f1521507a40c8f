"""How much memory one process of a training run needs at its peak, from the model's shape alone.

Nothing is allocated and nothing is measured: every term follows what ``torch_engine``,
``deepspeed_engine`` and ``packed_model`` hold at four moments, and the worst of them counts. On a
GPU it is what ``torch.cuda.max_memory_allocated`` will say, on a CPU what ``run_info.peak_since``
does. All sizes are bytes; a "width" is the bytes of a number in the precision of the arithmetic.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from screl.core.shape import Shape, n_weights

if TYPE_CHECKING:
    pass


HEAD_CHUNK = 1024  # head_loss's; importing it would import torch
DEEPSPEED = Path(__file__).parents[2] / "configs/deepspeed"
# DeepSpeed's defaults for what the files in that folder leave out, in numbers.
REDUCE_BUCKET = 500_000_000
PREFETCH_BUCKET = 50_000_000
REUSE_DISTANCE = 1_000_000_000
SUB_GROUP = 1_000_000_000


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at one moment of a run."""

    moment: str
    weights: float = 0  # float32 masters and the copies in the precision of the arithmetic
    gradients: float = 0
    optimizer: float = 0  # Adam's two moments
    activations: float = 0  # what the forward pass keeps for the backward pass
    logits: float = 0
    other: float = 0  # buffers of the communication, and what lives for one operation

    @property
    def total(self) -> float:
        """Bytes on the GPU, or of the process on a CPU."""
        return sum(getattr(self, term) for term in TERMS)


TERMS = tuple(field.name for field in fields(Memory) if field.name != "moment")


@dataclass(frozen=True)
class TrainingProcess:
    """What decides the memory of a process."""

    shape: Shape
    sharding: str
    world_size: int
    precision: str
    tokens: int  # of the largest micro-batch
    targets: int  # with loss, of these
    gradient_checkpointing: bool
    micro_batches: int = 2  # of a step; gradients wait in memory from the second on
    squares: int = 0  # sum of tokens^2 over the examples of a micro-batch, at most
    on_cpu: bool = False
    liger: bool = False  # whether Liger's kernels are used (screl/training/model.py)

    @property
    def width(self) -> int:
        """Bytes of a number in the precision of the arithmetic."""
        return 2 if self.precision == "bf16" else 4

    @property
    def n_weights(self) -> int:
        return n_weights(self.shape)

    @property
    def layer_activations(self) -> float:
        """What one layer keeps for its backward pass.

        A norm keeps its input in float32, and the normed input and its output in the width; with
        Liger, input and output only. Attention keeps queries, keys, values and its output, and 4
        bytes a head; without the FlashAttention kernel its examples are also put end to end, and
        bf16 on a CPU keeps the probabilities. The MLP keeps gate, silu(gate), up and their product;
        Liger computes silu(gate) again.
        """
        shape, width = self.shape, self.width
        by_products = self.precision == "bf16" and self.on_cpu
        flash = self.precision == "bf16" and not self.on_cpu
        norm = (2 * width if self.liger else 4 + 2 * width) * shape.hidden_size
        attention = width * (2 * shape.query_width + 2 * shape.key_width)
        attention += 4 * shape.num_attention_heads + (0 if flash else width * shape.query_width)
        probabilities = width * shape.num_attention_heads * self.squares if by_products else 0
        mlp = width * (3 if self.liger else 4) * shape.intermediate_size
        return self.tokens * (2 * norm + attention + mlp) + probabilities

    @property
    def activations(self) -> float:
        """What all layers and the last norm keep; with checkpointing the input of every layer.

        Of the targets, the hidden states and their gradients.
        """
        hidden = self.tokens * self.shape.hidden_size
        each = self.width * hidden if self.gradient_checkpointing else self.layer_activations
        last = (4 + self.width) * hidden + 2 * self.width * self.targets * self.shape.hidden_size
        return self.shape.num_hidden_layers * each + last

    @property
    def logits(self) -> float:
        """Of one chunk of the targets: logits and log-probabilities in float32, and what the
        logits are made from if that is bf16."""
        width = 10 if self.precision == "bf16" else 8
        return width * self.shape.vocab_size * min(self.targets, HEAD_CHUNK)

    @property
    def head_gradient(self) -> float:
        """The gradient of the head, in the width, whole on every process."""
        return self.width * self.shape.embedding

    @property
    def layer_work(self) -> float:
        """What the backward pass of a layer needs for a moment: the gradients of gate, up and the
        residual, and with checkpointing everything the layer keeps, computed again."""
        shape = self.shape
        work = self.width * self.tokens * 2 * (shape.intermediate_size + shape.hidden_size)
        return work + self.gradient_checkpointing * self.layer_activations


def worst(run: TrainingProcess) -> Memory:
    """The moment at which a process needs most."""
    return max(moments(run), key=lambda memory: memory.total)


def host_memory(run: TrainingProcess) -> float:
    """Bytes in the memory of the host beside those of the GPU.

    Of every process with zero3_offload, for what is divided: a copy in the width, masters, Adam's
    moments, gradients as they are added up and as the optimizer reads them. While the model is
    read, in float32: of every process with zero2, of the first one with torch's own sharding.
    """
    if run.sharding == "zero3_offload":
        return (run.width + 4 + 8 + 4 + 4) * run.n_weights / run.world_size
    return 0 if run.sharding == "zero3" else 4 * run.n_weights


def moments(run: TrainingProcess) -> list[Memory]:
    """All that can be the worst moment."""
    if run.sharding == "zero2":
        return list(zero2_moments(run))
    return list(zero3_moments(run) if run.sharding.startswith("zero3") else torch_moments(run))


def torch_moments(run: TrainingProcess) -> Iterator[Memory]:
    """none, ddp and fsdp: float32 masters, of which fully_shard makes copies in the width.

    Where they are divided (fsdp), a root of large embeddings is the worst moment of small models,
    the last layer that of large ones.
    """
    shape, width, total = run.shape, run.width, run.n_weights
    divided = run.sharding == "fsdp" and run.world_size > 1
    parts = run.world_size if divided else 1
    masters, adam, gradients = (each * total / parts for each in (4, 8, 4))
    accumulates = run.micro_batches > 1
    waiting = gradients if accumulates else 0
    # The root's copies stay from its forward to its backward pass; so do the layers' where they
    # are not divided. fsdp gathers a layer into a buffer and from that into its copies, and one
    # layer ahead: two of these at any time.
    copies = width * (shape.root if divided else total)
    gathered = 2 * width * shape.layer if divided else 0
    if run.on_cpu:  # the first process reads all, and copies the root while the old one is there
        yield Memory("loading", weights=4 * (total + shape.root))
    yield Memory(
        "logits",
        masters + copies,
        waiting + run.head_gradient,
        adam,
        run.activations,
        run.logits,
        gathered,
    )
    yield Memory(
        "last layer",
        masters + copies,
        waiting + run.head_gradient + width * shape.layer,
        adam,
        run.activations,
        other=gathered + run.layer_work,
    )
    # Gradients are put together in float32 to be reduced, the root's last of all. Without parts
    # what was reduced is kept until then (torch's all_reduce_state), beside what it is added to.
    again = 4 * (shape.root if divided else total) / parts if accumulates else 0
    again += 5 * shape.root if run.on_cpu and divided else 0  # gloo's copy, and a quarter more
    whole = width * shape.root - (0 if accumulates else 4 * shape.root / parts)
    yield Memory(
        "end of backward", masters, gradients, adam, other=4 * shape.root + max(again, whole)
    )


def setting(sharding: str, name: str, default: int) -> int:
    """What the JSON file of ``sharding`` says of zero_optimization, else DeepSpeed's default."""
    text = (DEEPSPEED / f"{sharding}.json").read_text(encoding="utf-8")
    return int(json.loads(text)["zero_optimization"].get(name, default))


def zero2_moments(run: TrainingProcess) -> Iterator[Memory]:
    """All weights in the width on every process; masters, gradients and optimizer divided."""
    width, total, parts = run.width, run.n_weights, run.world_size
    bucket = setting("zero2", "reduce_bucket_size", REDUCE_BUCKET)
    weights = width * total + 4 * total / parts
    adam, gradients = 8 * total / parts, 4 * total / parts
    waiting = gradients if run.micro_batches > 1 else 0
    if run.on_cpu:
        yield Memory("loading", weights=4 * total + 4 * total / parts)
    yield Memory("logits", weights, waiting + run.head_gradient, adam, run.activations, run.logits)
    # Two buckets (overlap_comm) are there from the first gradient to the last.
    buckets = 2 * width * bucket
    yield Memory(
        "last layer", weights, waiting + run.head_gradient, adam, run.activations,
        other=buckets + run.layer_work,
    )  # fmt: skip
    # A full bucket is copied to be reduced, when the layers behind it need no activations any more;
    # what a process keeps of a matrix is made float32 to be added up.
    filled = min(total, bucket)
    added = 4 * min(run.shape.embedding, total / parts) if width == 2 else 0
    yield Memory(
        "reduction", weights, gradients, adam, run.activations * (1 - filled / total),
        other=buckets + width * filled + added,
    )  # fmt: skip


def zero3_moments(run: TrainingProcess) -> Iterator[Memory]:
    """Everything divided; with zero3_offload what is divided lies in host memory."""
    shape, width, total, parts = run.shape, run.width, run.n_weights, run.world_size
    offload = run.sharding == "zero3_offload"
    bucket = setting(run.sharding, "reduce_bucket_size", REDUCE_BUCKET)
    prefetch = setting(run.sharding, "stage3_prefetch_bucket_size", PREFETCH_BUCKET)
    reuse = setting(run.sharding, "stage3_max_reuse_distance", REUSE_DISTANCE)
    sub_group = setting(run.sharding, "sub_group_size", SUB_GROUP)
    weights = (width + 4) * total / parts
    adam, gradients = 8 * total / parts, 4 * total / parts
    if offload and not run.on_cpu:
        weights, adam, gradients = 0, 0, 0
    elif offload:
        gradients *= 2  # as they are added up, and as the optimizer reads them
    # What is used again soon is not given back: the last layers, where the passes meet.
    gathered = width * min(total, reuse / 2 + shape.embedding + prefetch)
    if run.on_cpu:
        yield Memory("loading", weights, gradients + 4 * total / parts, other=width * bucket)
    yield Memory(
        "logits", weights + gathered, gradients + run.head_gradient, adam, run.activations,
        run.logits,
        other=width * bucket,
    )  # fmt: skip
    yield Memory(
        "last layer", weights + gathered, gradients + run.head_gradient, adam, run.activations,
        other=width * bucket + run.layer_work,
    )  # fmt: skip
    # A full bucket is copied to be reduced, into float32.
    filled = min(total, bucket)
    rest = 1 - filled / total
    yield Memory(
        "reduction", weights + gathered * rest, gradients, adam, run.activations * rest,
        other=width * bucket + (width + 4 / parts) * filled,
    )  # fmt: skip
    # The optimizer gets a copy of the gradients, a sub-group at a time.
    flat = 0 if offload else 4 * min(total / parts, sub_group)
    yield Memory("optimizer step", weights, gradients, adam, other=width * bucket + flat)
