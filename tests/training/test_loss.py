"""Test the weights of the loss, and the loss behind the head against plain cross-entropy."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from screl.training import loss as loss_module
from screl.training.loss import Head, head_loss, loss_weights

N_TARGETS, WIDTH, N_WORDS = 53, 16, 90


def test_token_mean_weighs_every_response_token_alike() -> None:
    assert loss_weights([2, 6], "token_mean", 4) == [1 / 8, 1 / 8]


def test_the_papers_loss_is_the_mean_of_the_means_of_groups() -> None:
    """Five examples in groups of two: (2 + 6), (1 + 3) and the last one alone."""
    weights = loss_weights([2, 6, 1, 3, 5], "paper", 2)
    assert weights == pytest.approx([1 / 24, 1 / 24, 1 / 12, 1 / 12, 1 / 15])


def make_inputs(dtype: torch.dtype) -> list[torch.Tensor]:
    """Return hidden states, a head, targets, and weights, one of which is 0."""
    torch.manual_seed(0)
    hidden = torch.randn(N_TARGETS, WIDTH).to(dtype).requires_grad_()
    head = torch.randn(N_WORDS, WIDTH).to(dtype).requires_grad_()
    weights = torch.rand(N_TARGETS)
    weights[5] = 0
    return [hidden, head, torch.randint(N_WORDS, (N_TARGETS,)), weights]


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_loss_and_gradients_equal_those_of_cross_entropy(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, head, targets, weights = make_inputs(torch.float64)
    losses = functional.cross_entropy(hidden @ head.T, targets, reduction="none")
    expected = torch.autograd.grad((losses * weights).sum() * 3, [hidden, head])
    monkeypatch.setattr(loss_module, "HEAD_TOKENS", chunk)
    loss = head_loss(hidden, Head(head), targets, weights)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), (losses * weights).sum(), rtol=1e-6, atol=0)
    found = torch.autograd.grad(loss * 3, [hidden, head])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float64
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)  # logits become float32
    assert not found[0][5].any()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(0.25, None), (1.0, 3.0), (4.0, 3.0)])
def test_heads_with_a_bias_scale_or_cap_equal_automatic_gradients(
    bias: bool, scale: float, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, weight, targets, weights = make_inputs(torch.float64)
    inputs = [hidden, weight]
    logits = hidden @ weight.T
    if bias:
        inputs.append(torch.randn(N_WORDS, dtype=torch.float64).requires_grad_())
        logits = logits + inputs[2]
    logits = logits * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    losses = functional.cross_entropy(logits, targets, reduction="none")
    expected = torch.autograd.grad((losses * weights).sum() * 3, inputs)
    monkeypatch.setattr(loss_module, "HEAD_TOKENS", 7)
    head = Head(weight, inputs[2] if bias else None, scale, softcap)
    torch.testing.assert_close(head.logits(hidden), logits)
    loss = head_loss(hidden, head, targets, weights)
    torch.testing.assert_close(loss.double(), (losses * weights).sum(), rtol=1e-6, atol=0)
    for found, true in zip(torch.autograd.grad(loss * 3, inputs), expected, strict=True):
        torch.testing.assert_close(found, true, rtol=1e-5, atol=1e-6)  # logits become float32


def test_bf16_is_as_exact_as_automatic_gradients() -> None:
    """Both round; ours are no further from the float64 gradients."""
    exact = make_inputs(torch.bfloat16)
    inputs = [x.detach().double().requires_grad_() if x.requires_grad else x for x in exact]
    truth = torch.autograd.grad(
        (functional.cross_entropy(inputs[0] @ inputs[1].T, inputs[2], reduction="none")
         * inputs[3]).sum(), inputs[:2],
    )  # fmt: skip
    logits = (exact[0] @ exact[1].T).float()
    plain = (functional.cross_entropy(logits, exact[2], reduction="none") * exact[3]).sum()
    usual = torch.autograd.grad(plain, exact[:2])
    found = torch.autograd.grad(head_loss(exact[0], Head(exact[1]), *exact[2:]), exact[:2])
    for ours, theirs, true in zip(found, usual, truth, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours - true).norm() < 1.1 * (theirs - true).norm() < 0.02 * true.norm()


def test_a_confident_wrong_prediction_does_not_overflow() -> None:
    hidden = torch.tensor([[200.0]], requires_grad=True)
    head = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    loss = head_loss(hidden, Head(head), torch.tensor([1]), torch.ones(1))
    loss.backward()
    assert loss.item() == 400
    assert hidden.grad.tolist() == [[2.0]]
    assert head.grad.tolist() == [[200.0], [-200.0]]


def test_an_infinite_hidden_state_makes_the_loss_nan() -> None:
    """The loop stops a run by this."""
    hidden, head, targets, weights = make_inputs(torch.float32)
    with torch.no_grad():
        hidden[3] = torch.inf
    assert head_loss(hidden, Head(head), targets, weights).isnan()


def test_the_logits_are_never_in_memory_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "HEAD_TOKENS", 8)
    hidden, head, targets, weights = make_inputs(torch.float32)
    shapes: list[Any] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and N_WORDS in result.shape:
                shapes.append(tuple(result.shape))
            return result

    with Watch():
        head_loss(hidden, Head(head), targets, weights).backward()
    of_logits = {shape for shape in shapes if WIDTH not in shape}
    assert of_logits == {(8, N_WORDS), (N_WORDS, 8), (5, N_WORDS), (N_WORDS, 5)}
