"""Where relations end: in the published study, and in numbers chosen by hand."""

import pytest

from screl.analysis.fits import fit_study
from screl.analysis.limits import limits_list
from tests.made_study import make_study, paper, paper_fits

PARTS = {"part2-epochs3": 40, "part4-epochs3": 30, "part8-epochs3": 20}  # 10 a doubling


def limits(accuracy: dict[str, float], error: float = 0.1) -> list[str]:
    study = make_study({("m15", setting): of for setting, of in accuracy.items()}, error)
    return limits_list(study, fit_study(study)).splitlines()


def test_the_published_study_ends_where_the_paper_says() -> None:
    found = limits_list(paper(), paper_fits())
    for model, setting in (("LLaMA-33B", "k100"), ("LLaMA-65B", "u_small")):
        assert f"* {model}: no gain of RFT {setting} is told, -" in found
    assert "LLaMA-7B: no gain" not in found
    assert (
        "* LLaMA2-70B: SFT on 233 solutions leaves the line of 1 to 1/8, 27.4 % where it has 53.2 ["
    ) in found
    assert "LLaMA-7B: SFT on" not in found  # 9.5 and 14.3 lie within its wide interval


def test_relations_that_hold_leave_nothing_to_say() -> None:
    exact = {"sft": 50.0} | PARTS | {"part16-epochs3": 10.2, "k100": 55}
    exact |= {"part2-epochs3": 40.4}  # some scatter: of an exact line nothing is within
    assert limits(exact) == ["None was found."]


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (50.1, "no gain of RFT k100 is told, 0.1 points ["),
        (48, "RFT k100 does harm, -2.0 points ["),
    ],
)
def test_rft_without_gain(after: float, text: str) -> None:
    (line,) = limits({"sft": 50, "k100": after})
    assert line.startswith(f"* m15: {text}")


def test_a_slope_that_may_be_none() -> None:
    flat = {"sft": 20.1, "part2-epochs3": 19.9, "part4-epochs3": 20.1, "part8-epochs3": 19.9}
    start = "* m15: no slope of SFT accuracy over solutions, 1 to 1/8 is told, 0.04 ["
    found = [line for line in limits(flat, error=5) if line.startswith(start)]
    assert [line.rsplit("] ")[1] for line in found] == ["over problems.", "over points."]
    assert not any("over problems." in line for line in limits(flat, error=0.01))


def test_small_parts_that_leave_the_line() -> None:
    parts = {"sft": 50, "part2-epochs3": 40.4} | {"part4-epochs3": 30, "part8-epochs3": 20}
    (line,) = limits(parts | {"part16-epochs3": 2})
    start = "* m15: SFT on 32 solutions leaves the line of 1 to 1/8, 2.0 % where it has "
    assert line.startswith(start)
