"""Predict the memory that one process of a training run needs, from the model's shape alone.

Nothing is allocated or measured: every term follows from what ``engine``, ``deepspeed`` and
``model`` hold at a few moments of a step, and the worst moment counts. The result corresponds to
``torch.cuda.max_memory_allocated`` on a GPU and to ``run_info.PeakWatch`` on a CPU. Sizes are in
bytes; a "width" is the number of bytes of a value in the precision of the arithmetic.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from screl.core.shape import Shape, n_weights
from screl.training.config import deepspeed_settings
from screl.training.loss import HEAD_TOKENS
from screl.training.weights import SLICE_VALUES

# DeepSpeed's defaults, as numbers of elements, for settings that configs/deepspeed leaves out.
DEEPSPEED_DEFAULTS = {
    "reduce_bucket_size": 500_000_000,
    "stage3_prefetch_bucket_size": 50_000_000,
    "stage3_max_reuse_distance": 1_000_000_000,
    "sub_group_size": 1_000_000_000,
}


@dataclass(frozen=True)
class Memory:
    """The bytes that one process holds at one moment of a run."""

    moment: str
    weights: float = 0  # float32 masters and the copies in the precision of the arithmetic
    gradients: float = 0
    optimizer: float = 0  # Adam's two moments
    activations: float = 0  # kept by the forward pass for the backward pass
    logits: float = 0
    other: float = 0  # communication buffers, and what lives for one operation

    @property
    def total(self) -> float:
        """Bytes held on the GPU or, without one, by the process."""
        return sum(getattr(self, term) for term in TERMS)


TERMS = tuple(field.name for field in fields(Memory) if field.name != "moment")


@dataclass(frozen=True)
class Workload:
    """Everything that determines the memory of a process."""

    shape: Shape
    sharding: str
    world_size: int
    precision: str
    tokens: int  # in the largest micro-batch
    targets: int  # of these, with loss
    gradient_checkpointing: bool
    micro_batches: int = 2  # per step; gradients wait in memory from the second one on
    squares: int = 0  # largest sum of tokens^2 over the examples of a micro-batch
    on_cpu: bool = False
    liger: bool = False  # whether Liger's kernels are used

    @property
    def width(self) -> int:
        """Bytes of a value in the precision of the arithmetic."""
        return 2 if self.precision == "bf16" else 4

    @property
    def n_weights(self) -> int:
        """Weights of the whole model."""
        return n_weights(self.shape)

    @property
    def layer_activations(self) -> float:
        """Bytes that one layer keeps for its backward pass.

        A norm keeps its input in float32, and the normalized input and its output in the width;
        with Liger, only input and output. Attention keeps queries, keys, values and its output, and
        4 bytes per head; without the FlashAttention kernel its outputs are also concatenated, and
        bf16 on a CPU keeps the probabilities. The MLP keeps gate, silu(gate), up and their product;
        Liger recomputes silu(gate).
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
        """Bytes kept by all layers, the last norm, and the targets' hidden states and gradients.

        With gradient checkpointing, layers keep only their inputs.
        """
        hidden = self.tokens * self.shape.hidden_size
        layer = self.width * hidden if self.gradient_checkpointing else self.layer_activations
        last = (4 + self.width) * hidden + 2 * self.width * self.targets * self.shape.hidden_size
        return self.shape.num_hidden_layers * layer + last

    @property
    def logits(self) -> float:
        """Bytes of one chunk of targets: float32 logits and log-probabilities, and any bf16 logits.

        The bf16 logits exist only with bf16 arithmetic, in which the head's gradient is also twice
        as wide until it is complete.
        """
        width = 10 if self.precision == "bf16" else 8
        sums = 2 * self.shape.embedding if self.precision == "bf16" else 0  # of the head's gradient
        return width * self.shape.vocab_size * min(self.targets, HEAD_TOKENS) + sums

    @property
    def head_gradient(self) -> float:
        """Bytes of the head's gradient, which is whole on every process."""
        return self.width * self.shape.embedding

    @property
    def layer_work(self) -> float:
        """Bytes that the backward pass of a layer needs temporarily.

        These are the gradients of gate, up and the residual and, with gradient checkpointing, the
        activations that the layer recomputes.
        """
        shape = self.shape
        work = self.width * self.tokens * 2 * (shape.intermediate_size + shape.hidden_size)
        return work + self.gradient_checkpointing * self.layer_activations

    @property
    def host_memory(self) -> float:
        """Bytes of host memory beyond those of the GPU.

        With zero3_offload, every process holds its part: a copy in the width, masters, Adam's
        moments, and gradients twice (as they are added up and as the optimizer reads them).
        Otherwise this is a slice of a weight while the model is read, in float32 and as stored.
        With zero3, DeepSpeed then moves each process's part through host memory to lay it out anew.
        """
        if self.sharding == "zero3_offload":
            return (self.width + 4 + 8 + 4 + 4) * self.n_weights / self.world_size
        part = self.width * self.n_weights / self.world_size if self.sharding == "zero3" else 0
        return max(part, 8 * SLICE_VALUES)


def peak_moment(workload: Workload) -> Memory:
    """Return the moment at which the process needs the most memory."""
    return max(memory_moments(workload), key=lambda memory: memory.total)


def memory_moments(workload: Workload) -> list[Memory]:
    """Return every moment at which memory use may peak."""
    if workload.sharding == "zero2":
        return list(_zero2_moments(workload))
    if workload.sharding.startswith("zero3"):
        return list(_zero3_moments(workload))
    return list(_torch_moments(workload))


def _torch_moments(run: Workload) -> Iterator[Memory]:
    """Yield the moments of none, ddp and fsdp.

    fully_shard makes copies of the float32 masters in the width. With fsdp, small models peak at
    the root, which has large embeddings, and large models at the last layer.
    """
    shape, width, total = run.shape, run.width, run.n_weights
    divided = run.sharding == "fsdp" and run.world_size > 1
    parts = run.world_size if divided else 1
    masters, adam, gradients = (each * total / parts for each in (4, 8, 4))
    accumulates = run.micro_batches > 1
    waiting = (gradients if accumulates else 0) + run.head_gradient
    # The root's copies stay from its forward to its backward pass; so do the layers' if they are
    # not divided. fsdp gathers a layer into a buffer and from that into its copies, one layer
    # ahead: two of these at any time.
    weights = masters + width * (shape.root if divided else total)
    gathered = 2 * width * shape.layer if divided else 0
    yield Memory("logits", weights, waiting, adam, run.activations, run.logits, gathered)
    yield Memory(
        "last layer", weights, waiting + width * shape.layer, adam, run.activations,
        other=gathered + run.layer_work,
    )  # fmt: skip
    # Gradients are put together in float32 to be reduced, the root's last of all. Those that are
    # not divided are added up in float32 and reduced once, layer by layer.
    if accumulates and not divided:
        yield Memory("end of backward", masters, gradients, adam, other=4 * (total + shape.layer))
        return
    again = 4 * shape.root / parts if accumulates else 0
    again += 5 * shape.root if run.on_cpu and divided else 0  # gloo's copy, and a quarter more
    whole = width * shape.root - (0 if accumulates else 4 * shape.root / parts)
    yield Memory(
        "end of backward", masters, gradients, adam, other=4 * shape.root + max(again, whole)
    )


def _zero2_moments(run: Workload) -> Iterator[Memory]:
    """Yield the moments of zero2.

    Every process holds all weights in the width; masters, gradients and optimizer state are
    divided.
    """
    width, total, parts = run.width, run.n_weights, run.world_size
    bucket = _setting("zero2", "reduce_bucket_size")
    weights = width * total + 4 * total / parts
    adam, gradients = 8 * total / parts, 4 * total / parts
    waiting = (gradients if run.micro_batches > 1 else 0) + run.head_gradient
    if run.on_cpu:
        yield Memory("loading", weights=width * total + 4 * total / parts)
    yield Memory("logits", weights, waiting, adam, run.activations, run.logits)
    # Two buckets (overlap_comm) exist from the first gradient to the last.
    buckets = 2 * width * bucket
    yield Memory(
        "last layer", weights, waiting, adam, run.activations, other=buckets + run.layer_work
    )
    # A full bucket is copied to be reduced, when the layers behind it have freed their activations.
    # A process converts its share of a matrix to float32 to add it up.
    filled = min(total, bucket)
    added = 4 * min(run.shape.embedding, total / parts) if width == 2 else 0
    yield Memory(
        "reduction", weights, gradients, adam, run.activations * (1 - filled / total),
        other=buckets + width * filled + added,
    )  # fmt: skip


def _zero3_moments(run: Workload) -> Iterator[Memory]:
    """Yield the moments of zero3 and zero3_offload.

    zero3 divides everything; zero3_offload also keeps the divided tensors in host memory.
    """
    shape, width, total, parts = run.shape, run.width, run.n_weights, run.world_size
    offload = run.sharding == "zero3_offload"
    bucket = _setting(run.sharding, "reduce_bucket_size")
    prefetch = _setting(run.sharding, "stage3_prefetch_bucket_size")
    reuse = _setting(run.sharding, "stage3_max_reuse_distance")
    weights = (width + 4) * total / parts
    adam, gradients = 8 * total / parts, 4 * total / parts
    if offload and not run.on_cpu:
        weights, adam, gradients = 0, 0, 0
    elif offload:
        gradients *= 2  # as they are added up, and as the optimizer reads them
    waiting = gradients + run.head_gradient
    # Layers that are used again soon stay gathered: the last ones, where the passes meet.
    gathered = width * min(total, reuse / 2 + shape.embedding + prefetch)
    buffer = width * bucket
    if run.on_cpu:
        yield Memory("loading", weights, gradients + 4 * total / parts, other=buffer)
    yield Memory(
        "logits", weights + gathered, waiting, adam, run.activations, run.logits, other=buffer
    )
    yield Memory(
        "last layer", weights + gathered, waiting, adam, run.activations,
        other=buffer + run.layer_work,
    )  # fmt: skip
    # A full bucket is copied to float32 to be reduced.
    filled = min(total, bucket)
    rest = 1 - filled / total
    yield Memory(
        "reduction", weights + gathered * rest, gradients, adam, run.activations * rest,
        other=buffer + (width + 4 / parts) * filled,
    )  # fmt: skip
    # The optimizer gets a copy of the gradients, one sub-group at a time.
    flat = 0 if offload else 4 * min(total / parts, _setting(run.sharding, "sub_group_size"))
    yield Memory("optimizer step", weights, gradients, adam, other=buffer + flat)


def _setting(sharding: str, name: str) -> int:
    """Return a number that the JSON file of ``sharding`` sets, or else DeepSpeed's default."""
    settings = deepspeed_settings(sharding)["zero_optimization"]
    return int(settings.get(name, DEEPSPEED_DEFAULTS[name]))
