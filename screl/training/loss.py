"""Compute the loss of a step: the weight of each token, and the cross-entropy after the head."""

from collections.abc import Sequence
from typing import Any

import torch

HEAD_TOKENS = 1024  # logits in memory at once: 131 MB with 32,000 words in float32


def loss_weights(n_targets: Sequence[int], loss_norm: str, group_size: int) -> list[float]:
    """Return the weight of a response token of each example, so the step's loss is a plain sum.

    ``n_targets`` holds the number of response tokens of each example. ``token_mean`` weighs all
    tokens of the step alike. ``paper`` is the mean of the groups' means, where a group is
    ``group_size`` neighbors in the shuffled order (fewer in the last group), as in transformers up
    to 4.29 with micro-batches of that size on every process.
    """
    if loss_norm == "token_mean":
        return [1 / sum(n_targets)] * len(n_targets)
    groups = [n_targets[i : i + group_size] for i in range(0, len(n_targets), group_size)]
    return [1 / (len(groups) * sum(group)) for group in groups for _ in group]


def head_loss(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the weighted sum of the targets' negative log-likelihoods (nats, float32).

    ``hidden`` is (targets, width), ``head`` (vocabulary, width), the others (targets,). The
    gradients are computed together with the loss, ``HEAD_TOKENS`` at a time, so the head runs once
    and nothing as large as all logits waits for the backward pass (the idea of Liger's fused linear
    cross-entropy, arXiv:2410.10989, section 3.2, in plain torch).
    """
    loss: torch.Tensor = HeadLoss.apply(hidden, head, targets, weights)
    return loss


class HeadLoss(torch.autograd.Function):
    """The autograd function of ``head_loss``."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Return the loss and save its gradients."""
        loss = torch.zeros((), device=hidden.device)
        hidden_grad = torch.empty_like(hidden)
        head_grad = torch.zeros_like(head, dtype=torch.float32)  # bf16 sums lose the small chunks
        columns = (targets[:, None], weights[:, None])
        chunks = (whole.split(HEAD_TOKENS) for whole in (hidden, hidden_grad, *columns))
        for states, states_grad, target, weight in zip(*chunks, strict=True):
            scores = torch.log_softmax(states @ head.T, dim=1, dtype=torch.float32)
            loss -= (scores.gather(1, target) * weight).sum()
            # with respect to the logits: (probability - 1 for the target) * weight
            scores.exp_().mul_(weight).scatter_add_(1, target, -weight)
            torch.mm(scores.to(head.dtype), head, out=states_grad)
            head_grad.addmm_(scores.T, states.float())
        del scores  # makes room for the copy
        ctx.save_for_backward(hidden_grad, head_grad.to(head.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the saved gradients in place, which allows only one backward pass."""
        hidden_grad, head_grad = ctx.saved_tensors
        return hidden_grad.mul_(gradients[0]), head_grad.mul_(gradients[0]), None, None
