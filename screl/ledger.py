"""The arithmetic that a stage costs, counted as the paper counts it (arXiv 2308.01825, appendix E).

N is the number of weights outside the embedding and the head. Training takes 6 N FLOPs a token,
running a model 2 N, and writing a token with the states of the earlier ones at hand 1.66 N; to the
last two comes attention. These are the paper's formulas, so that numbers can be put beside its
Table 4, and no measurement of what a device did:

* The paper counts the prompt of every sample. The engines here run it once for all samples of a
  request, so sampling k of each problem takes less than is counted.
* 1.66 N is 2 N without the keys' and values' matrices (a sixth of a LLaMA with as many heads for
  them as for queries). A written token goes through these too: 2 N would be right.
* Attention of a written token is counted half: its queries meet the keys, and the weighted values
  are not counted. At the lengths of GSM8K this is less than 1 %.
* What the head and recomputed activations take is not counted.
"""

from collections.abc import Iterable, Sequence

from screl.model_shape import Shape, n_weights

TRAINING, FORWARD, CACHED = 6, 2, 1.66  # FLOPs a weight and token


def n_counted(shape: Shape) -> int:
    """The paper's N: weights but those of the embedding and the head; exact where n_weights is."""
    return n_weights(shape) - shape.root + shape.hidden_size


def training_flops(shape: Shape, n_tokens: int) -> float:
    """FLOPs of training on ``n_tokens``, all epochs: 6 N each, forward and backward."""
    return float(TRAINING * n_counted(shape) * n_tokens)


def forward_flops(shape: Shape, n_context: int) -> float:
    """FLOPs of running one token of a text of ``n_context``."""
    return float(FORWARD * n_counted(shape) + _attention_flops(shape, n_context))


def cached_flops(shape: Shape, n_context: int) -> float:
    """FLOPs of writing one token behind ``n_context`` others whose states are at hand."""
    return CACHED * n_counted(shape) + _attention_flops(shape, n_context)


def sampling_flops(shape: Shape, n_prompt: int, lengths: Sequence[int]) -> float:
    """FLOPs of all samples of one problem: each runs ``n_prompt`` tokens and writes one by one
    those that ``lengths`` has of it.

    Printed is the sum over i of i C'(i), which would count token i as often as there are tokens
    before it: 100 times the Table 4 of the same paper. The factor i is left out here.
    """
    prompts = len(lengths) * n_prompt * forward_flops(shape, n_prompt)
    # the sum of cached_flops(shape, i) for i from n_prompt to n_prompt + n - 1, n of each length
    n_contexts = sum(n * n_prompt + n * (n - 1) // 2 for n in lengths)
    return prompts + sum(lengths) * cached_flops(shape, 0) + _attention_flops(shape, n_contexts)


def count_samples(
    shape: Shape, prompts: Iterable[int], lengths: Iterable[Sequence[int]]
) -> tuple[float, int]:
    """FLOPs of a whole run, and its tokens: those of every sample with its prompt.

    ``prompts`` are the tokens of each problem's prompt, ``lengths`` those of each of its samples.
    """
    flops, n_tokens = 0.0, 0
    for n_prompt, of_problem in zip(prompts, lengths, strict=True):
        flops += sampling_flops(shape, n_prompt, of_problem)
        n_tokens += len(of_problem) * n_prompt + sum(of_problem)
    return flops, n_tokens


def _attention_flops(shape: Shape, n_context: int) -> int:
    return 2 * shape.num_hidden_layers * n_context * shape.hidden_size
