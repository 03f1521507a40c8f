"""FLOPs against the paper's appendix E, by hand and by its Table 4."""

from dataclasses import replace

import pytest

from screl.core.cost import (
    cached_flops,
    count_samples,
    forward_flops,
    n_counted,
    sampling_flops,
    training_flops,
)
from screl.core.shape import Shape

LLAMA_7B = Shape(4096, 11008, 32, 32, 32, 128, 32000)
# a layer has 4 * 2 * 2 + 3 * 2 * 3 = 34 weights in matrices and 2 * 2 in norms
SMALL = Shape(2, 3, 2, 1, 1, 2, vocab_size=5)
SMALL_N = 2 * 38 + 2

N_QUESTION, N_SOLUTION = 66, 130  # tokens of GSM8K on average (appendix E)


def test_neither_the_embedding_nor_the_head_counts() -> None:
    assert n_counted(SMALL) == SMALL_N
    assert n_counted(replace(SMALL, vocab_size=999)) == SMALL_N
    assert n_counted(replace(SMALL, tie_word_embeddings=True)) == SMALL_N
    assert n_counted(LLAMA_7B) == 6_476_271_616


def test_flops_by_hand() -> None:
    assert training_flops(SMALL, 10) == 6 * SMALL_N * 10
    assert forward_flops(SMALL, 7) == 2 * SMALL_N + 2 * 2 * 7 * 2
    assert cached_flops(SMALL, 7) == pytest.approx(1.66 * SMALL_N + 2 * 2 * 7 * 2)


def test_every_sample_counts_its_prompt_and_each_of_its_tokens() -> None:
    one_by_one = 0.0
    for n_completion in (4, 1, 0):
        one_by_one += sum(forward_flops(SMALL, 3) for _ in range(3))
        one_by_one += sum(cached_flops(SMALL, i) for i in range(3, 3 + n_completion))
    assert sampling_flops(SMALL, 3, [4, 1, 0]) == pytest.approx(one_by_one, rel=1e-12)
    other = sampling_flops(SMALL, 5, [2])
    assert count_samples(SMALL, [3, 5, 8], [[4, 1, 0], [2], []]) == (
        pytest.approx(one_by_one + other),
        3 * 3 + 5 + 5 + 2,
    )


def test_the_sft_row_of_table_4() -> None:
    """7,473 solutions, 3 epochs: 1.7e17 for 7B."""
    flops = training_flops(LLAMA_7B, (N_QUESTION + N_SOLUTION) * 7473 * 3)
    assert flops == pytest.approx(1.71e17, rel=0.003)


def test_the_inference_row_of_table_4_is_not_quite_what_its_formula_gives() -> None:
    """100 samples of 7,473 problems: 1.4e18 printed for 7B, 1.69e18 by the printed formula.

    The printed number is 0.83 of that (13B 0.79, 33B and 65B 0.83, 70B 1.01). With every
    prompt run once for all its samples the same formula gives 1.05e18, and with the printed
    factor i 98 times as much as printed, so that can only be a slip.
    """
    flops = 7473 * sampling_flops(LLAMA_7B, N_QUESTION, [N_SOLUTION] * 100)
    assert flops == pytest.approx(1.687e18, rel=0.001)
    assert 1.4e18 / flops == pytest.approx(0.83, abs=0.005)
    prompts = 7473 * 99 * N_QUESTION * forward_flops(LLAMA_7B, N_QUESTION)
    assert flops - prompts == pytest.approx(1.054e18, rel=0.001)
    written = range(N_QUESTION, N_QUESTION + N_SOLUTION)
    as_printed = 747_300 * sum(i * cached_flops(LLAMA_7B, i) for i in written)
    assert as_printed / 1.4e18 == pytest.approx(98, abs=1)
