"""Compute the loss of a step: the weight of each token, and the cross-entropy after the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

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


@dataclass(frozen=True)
class Head:
    """What makes logits of hidden states: a matrix and, in some models, a bias, scale and cap."""

    weight: torch.Tensor  # (vocabulary, width)
    bias: torch.Tensor | None = None  # (vocabulary,)
    scale: float = 1.0
    softcap: float | None = None  # logits are softcap * tanh(logits / softcap)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return (tokens, vocabulary) logits of (tokens, width) hidden states."""
        logits = functional.linear(hidden, self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()

    def slope(self, logits: torch.Tensor) -> torch.Tensor | float:
        """Return the derivative of logits with respect to what the matrix alone would give."""
        if self.softcap is None:
            return self.scale
        return (1 - (logits / self.softcap).square()) * self.scale


def head_loss(
    hidden: torch.Tensor, head: Head, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the weighted sum of the targets' negative log-likelihoods (nats, float32).

    ``hidden`` is (targets, width), the others are (targets,). The gradients are computed together
    with the loss, ``HEAD_TOKENS`` at a time, so the head runs once and nothing as large as all
    logits waits for the backward pass (the idea of Liger's fused linear cross-entropy,
    arXiv:2410.10989, section 3.2, in plain torch).
    """
    loss: torch.Tensor = HeadLoss.apply(
        hidden, head.weight, head.bias, targets, weights, head.scale, head.softcap
    )
    return loss


class HeadLoss(torch.autograd.Function):
    """The autograd function of ``head_loss``, which must be given every tensor by itself."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
        targets: torch.Tensor, weights: torch.Tensor, scale: float, softcap: float | None,
    ) -> torch.Tensor:  # fmt: skip
        """Return the loss and save its gradients."""
        head = Head(weight, bias, scale, softcap)
        loss = torch.zeros((), device=hidden.device)
        hidden_grad = torch.empty_like(hidden)
        # bf16 sums would lose the small chunks
        weight_grad = torch.zeros_like(weight, dtype=torch.float32)
        bias_grad = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        columns = (targets[:, None], weights[:, None])
        chunks = (whole.split(HEAD_TOKENS) for whole in (hidden, hidden_grad, *columns))
        for states, states_grad, target, share in zip(*chunks, strict=True):
            logits = head.logits(states)
            scores = torch.log_softmax(logits, dim=1, dtype=torch.float32)
            loss -= (scores.gather(1, target) * share).sum()
            # with respect to the logits: (probability - 1 for the target) * weight
            scores.exp_().mul_(share).scatter_add_(1, target, -share).mul_(head.slope(logits))
            torch.mm(scores.to(weight.dtype), weight, out=states_grad)
            weight_grad.addmm_(scores.T, states.float())
            if bias_grad is not None:
                bias_grad += scores.sum(dim=0)
        del logits, scores  # makes room for the copies
        if bias_grad is not None:
            bias_grad = bias_grad.to(weight.dtype)
        ctx.save_for_backward(hidden_grad, weight_grad.to(weight.dtype), bias_grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the saved gradients in place, which allows only one backward pass."""
        scaled = [
            None if saved is None else saved.mul_(gradients[0]) for saved in ctx.saved_tensors
        ]
        return *scaled, None, None, None, None
