"""The cross-entropy behind a model's head, whose logits are never in memory as a whole."""

from collections.abc import Sequence
from typing import Any

import torch


def loss_weights(n_targets: Sequence[int], loss_norm: str, group_size: int) -> list[float]:
    """What a response token of each example of a step counts, so that the loss is a sum.

    ``n_targets`` are the response tokens of each example. ``token_mean``: all tokens of the step
    count the same. ``paper``: the mean over groups of ``group_size`` of each group's mean, as
    transformers up to 4.29 did with a micro-batch of that size on each of its processes; the last
    group may be smaller. A group consists of neighbours in the shuffled order.
    """
    if loss_norm == "token_mean":
        return [1 / sum(n_targets)] * len(n_targets)
    groups = [n_targets[i : i + group_size] for i in range(0, len(n_targets), group_size)]
    return [1 / (len(groups) * sum(group)) for group in groups for _ in group]


HEAD_TOKENS = 1024  # whose logits are in memory at once: 131 MB at 32,000 words in float32


def head_loss(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the sum of the targets' negative log-likelihoods (nats, float32), each times its
    weight.

    ``hidden`` is (targets, width), ``head`` (vocabulary, width), the others (targets,). The
    gradients are made at once, chunk by chunk, so the head runs once and nothing of the size of the
    logits waits for the backward pass (the idea of Liger's fused linear cross-entropy,
    arXiv:2410.10989, section 3.2, in plain torch).
    """
    loss: torch.Tensor = HeadLoss.apply(hidden, head, targets, weights)
    return loss


class HeadLoss(torch.autograd.Function):
    """See ``head_loss``."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """The loss; keeps its gradients."""
        loss = torch.zeros((), device=hidden.device)
        of_hidden, of_head = torch.empty_like(hidden), torch.zeros_like(head)
        columns = (targets[:, None], weights[:, None])
        chunks = (whole.split(HEAD_TOKENS) for whole in (hidden, of_hidden, *columns))
        for states, gradient, target, weight in zip(*chunks, strict=True):
            scores = torch.log_softmax(states @ head.T, dim=1, dtype=torch.float32)
            loss -= (scores.gather(1, target) * weight).sum()
            # of the logits: (probability - 1 for the target) * weight
            scores.exp_().mul_(weight).scatter_add_(1, target, -weight)
            of_logits = scores.to(head.dtype)
            torch.mm(of_logits, head, out=gradient)
            of_head.addmm_(of_logits.T, states)
        ctx.save_for_backward(of_hidden, of_head)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The kept gradients times that of the loss; in their own memory, so only once."""
        of_hidden, of_head = ctx.saved_tensors
        return of_hidden.mul_(gradients[0]), of_head.mul_(gradients[0]), None, None
