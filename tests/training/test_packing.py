"""Test that steps are divided completely, within the budget, and evenly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screl.core.io import UserError
from screl.training.packing import plan_step, split_evenly


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
        assert too_full or split_evenly(lengths, fewer)[0][0] > max_tokens


@pytest.mark.parametrize("world_size", [1, 3, 8, 24])
def test_ranks_get_even_loads_for_lengths_like_gsm8ks(world_size: int) -> None:
    lengths = [80 + (37 * i) % 250 for i in range(128)]
    plan = plan_step(lengths, world_size, 4096)
    loads = [sum(lengths[at] for one in rank for at in one) for rank in plan]
    assert max(loads) < 1.05 * sum(loads) / world_size


def test_a_row_longer_than_a_micro_batch_is_refused_with_the_size_it_needs() -> None:
    with pytest.raises(UserError, match=r"a row has 70 tokens .* raise it to 70 or more"):
        plan_step([70, 3], 1, 60)
