"""What runs together: nobody is lost or doubled, the budget holds, ranks are level."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.training.loss import loss_weights
from screl.training.packing import balance, plan_step


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=140),
    world_size=st.integers(1, 12),
    max_tokens=st.integers(60, 300),
)
def test_every_example_runs_once_in_as_few_micro_batches_as_fit(
    lengths: list[int], world_size: int, max_tokens: int
) -> None:
    if len(lengths) < world_size:
        with pytest.raises(UserError, match=f"start 1 to {len(lengths)} processes"):
            plan_step(lengths, world_size, max_tokens)
        return
    plan = plan_step(lengths, world_size, max_tokens)
    assert len(plan) == world_size
    assert len({len(micro_batches) for micro_batches in plan}) == 1
    assert sorted(at for rank in plan for one in rank for at in one) == [*range(len(lengths))]
    loads = [sum(lengths[at] for at in one) for rank in plan for one in rank]
    assert max(loads) <= max_tokens
    fewer = (len(plan[0]) - 1) * world_size
    if fewer:
        too_full = fewer * max_tokens < sum(lengths)
        assert too_full or balance(lengths, fewer)[0][0] > max_tokens


def test_ranks_are_level_where_lengths_are_like_gsm8ks() -> None:
    lengths = [80 + (37 * i) % 250 for i in range(128)]
    plan = plan_step(lengths, 8, 4096)
    loads = [sum(lengths[at] for one in rank for at in one) for rank in plan]
    assert max(loads) < 1.02 * sum(loads) / 8


@pytest.mark.parametrize("world_size", [1, 3, 8, 24, 32, 128])
def test_128_examples_on_any_number_of_processes(world_size: int) -> None:
    plan = plan_step([200] * 128, world_size, 4096)
    assert sum(len(one) for rank in plan for one in rank) == 128


def test_a_row_longer_than_a_micro_batch_says_what_fits() -> None:
    with pytest.raises(UserError, match=r"a row has 70 tokens .* raise it to 70 or more"):
        plan_step([70, 3], 1, 60)


def test_token_mean_counts_every_response_token_the_same() -> None:
    assert loss_weights([2, 6], "token_mean", 4) == [1 / 8, 1 / 8]


def test_the_papers_loss_is_the_mean_of_the_means_of_groups() -> None:
    """Five examples in groups of two: (2 + 6), (1 + 3) and the last one alone."""
    weights = loss_weights([2, 6, 1, 3, 5], "paper", 2)
    assert weights == pytest.approx([1 / 24, 1 / 24, 1 / 12, 1 / 12, 1 / 15])
    assert loss_weights([2, 6], "paper", 4) == loss_weights([2, 6], "token_mean", 4)
