"""Run a process's share of a step, or of the held-out rows, micro-batch by micro-batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from screl.models.tokenizer import Example
from screl.training.config import TrainConfig
from screl.training.data import TrainingData
from screl.training.loss import loss_weights
from screl.training.model import Batch, pack
from screl.training.packing import MicroBatch, plan_step

if TYPE_CHECKING:
    from screl.training.engine import TrainingEngine


def run_micro_batches(
    config: TrainConfig, engine: "TrainingEngine", data: TrainingData, step: int
) -> list[tuple[torch.Tensor, MicroBatch]]:
    """Run this process's micro-batches of a step.

    Returns, for each one, its share of the step's loss and the positions of its examples.
    """
    examples = [data.examples[row] for row in data.steps[step]]
    n_targets = [example.n_targets for example in examples]
    weights = loss_weights(n_targets, config.loss_norm, config.loss_group_size)
    batches, plan = share_of_batches(config, examples, weights)
    return list(zip(engine.add_gradients(batches), plan, strict=True))


def share_of_batches(
    config: TrainConfig, examples: Sequence[Example], weights: Sequence[float]
) -> tuple[list[Batch], list[MicroBatch]]:
    """Divide ``examples``; return this process's micro-batches and the positions of their examples.

    ``weights`` holds the weight of each example's response tokens in the loss.
    """
    lengths = [len(example) for example in examples]
    plan = plan_step(lengths, dist.get_world_size(), config.micro_batch_tokens)[dist.get_rank()]
    batches = []
    for positions in plan:
        chosen = positions or [0]  # a process without work runs any example, with weight 0
        counts = [weights[at] if positions else 0.0 for at in chosen]
        batches.append(pack([examples[at] for at in chosen], counts))
    return batches, plan


def held_out_loss(
    config: TrainConfig, engine: "TrainingEngine", examples: Sequence[Example]
) -> float:
    """Return the mean loss over all response tokens of ``examples``, in nats.

    All processes must call this.
    """
    weight = 1 / sum(example.n_targets for example in examples)
    batches, _ = share_of_batches(config, examples, [weight] * len(examples))
    total = torch.stack(engine.losses(batches)).sum()
    dist.all_reduce(total)
    return float(total)
