"""The published numbers as a study, and points of a study made by hand."""

import numpy as np
import pytest

from screl.analysis.estimates import Points, slope_per_doubling
from tests.analysis.made_study import make_study, paper
from tests.analysis.test_published_numbers import LLAMAS, UP_TO_13B, UP_TO_33B


def values(points: Points) -> list[float]:
    return [estimate.value for estimate in points.y]


def test_models_come_weakest_first() -> None:
    assert paper().models("icl") == LLAMAS
    assert paper().models("sft", "k100") == UP_TO_33B
    study = make_study({("m15", "sft"): 1, ("m12", "sft"): 2, ("m18", "sft"): 3, ("m16", "icl"): 4})
    assert study.models("sft") == ["m18", "m15", "m12"]
    assert study.models("sft", "icl") == []


def test_gains_over_another_setting() -> None:
    accuracy = {("m12", "sft"): 60, ("m12", "k100"): 61, ("m18", "sft"): 20, ("m18", "k100"): 25}
    study = make_study(accuracy | {("m15", "sft"): 40})
    gains = study.gains("k100")
    assert [(model, of.value) for model, of in gains.items()] == [("m18", 5), ("m12", 1)]
    expected = study.accuracy["m12", "k100"].draws - study.accuracy["m12", "sft"].draws
    assert gains["m12"].draws == pytest.approx(expected)
    assert study.gains("sft", over="k100")["m18"].value == -5
    assert study.gains("u_all") == {}


def test_gains_over_a_control_where_both_are_known() -> None:
    study = make_study(
        {
            ("m15", "k3"): 51, ("m15", "k3-rows"): 50, ("m15", "k6"): 54, ("m15", "k6-rows"): 51,
            ("m15", "k12"): 60, ("m15", "k12-tokens"): 50, ("m15", "k25-rows"): 10,
            ("m12", "k6"): 70, ("m12", "k6-rows"): 65,
        }
    )  # fmt: skip
    gains = study.gains_over_control("-rows", min_k=6)
    assert {key: of.value for key, of in gains.items()} == {("m15", 6): 3, ("m12", 6): 5}
    gains = study.gains_over_control("-tokens", min_k=1)
    assert {key: of.value for key, of in gains.items()} == {("m15", 12): 10}


def test_accuracy_over_loss_rises_in_loss() -> None:
    points = paper().by_loss("sft")
    assert points.x == sorted(points.x)
    assert len(points.x) == 12


def test_fractions_of_the_data_take_the_better_of_two_settings() -> None:
    points = paper().by_rows("LLaMA-7B")
    assert points.x == [7473 // 32, 7473 // 16, 7473 // 8, 7473 // 4, 7473 // 2, 7473]
    assert values(points) == [9.5, 14.3, 17.9, 22.7, 30.9, 35.9]
    assert values(paper().by_rows("LLaMA2-70B")) == [27.4, 52.8, 57.8, 57.8, 61.0, 63.2]
    gains = [slope_per_doubling(paper().by_stable_rows(model)).value for model in LLAMAS]
    assert gains == pytest.approx([6.22, 6.59, 7.92, 5.76, 5.21, 4.51, 1.94], abs=0.005)


def test_stable_fractions_are_an_eighth_and_more() -> None:
    parts = {("m15", f"part{part}-epochs3"): 60.0 - part for part in (2, 4, 8, 16, 32)}
    study = make_study(parts | {("m15", "sft"): 60})
    assert study.by_stable_rows("m15").x == [64, 128, 256, 512]
    del study.accuracy["m15", "part4-epochs3"]
    assert study.by_stable_rows("m15").x == [64, 256, 512]  # 1/16 is not among them
    assert make_study({("m15", "sft"): 60}).by_stable_rows("m15").x == [512]


def test_rft_over_k_and_over_paths() -> None:
    points = paper().by_k("LLaMA-13B")
    assert points.x == [1, 3, 6, 12, 25, 50, 100]
    assert values(points) == [42.7, 45.2, 46.8, 48.0, 46.0, 49.4, 49.1]
    slopes = [slope_per_doubling(of).value for of in paper().k_sweeps().values()]
    assert slopes == pytest.approx([0.58, 0.56, 0.90, 0.44], abs=0.005)
    assert list(paper().k_sweeps()) == UP_TO_13B  # LLaMA-33B has a single k
    assert values(paper().by_k("LLaMA-13B", "-no_dedup")) == [46.9]
    assert paper().by_k("LLaMA-13B", "-rows") == ([], [])
    points = paper().by_paths("LLaMA2-7B")
    assert points.x == [1.19, 1.47, 1.78, 2.23, 2.93, 3.91, 5.19]
    assert values(points) == values(paper().by_k("LLaMA2-7B"))
    assert paper().by_paths("GPT-4") == ([], [])


def test_settings_are_matched_by_their_whole_name() -> None:
    study = make_study(
        {
            ("m15", "sft"): 50, ("m15", "part2-epochs3"): 40, ("m15", "part2-epochs6"): 45,
            ("m15", "part16-epochs3"): 20, ("m15", "k10"): 60, ("m15", "k2"): 55,
            ("m15", "k2-rows"): 52, ("m15", "k2-tokens"): 51, ("m12", "part2-epochs3"): 99,
            ("m12", "k2"): 98,
        }
    )  # fmt: skip
    assert study.by_rows("m15").x == [32, 256, 512]
    assert values(study.by_rows("m15")) == [20, 45, 50]
    assert study.by_k("m15").x == [2, 10]
    assert values(study.by_k("m15")) == [55, 60]
    assert values(study.by_k("m15", "-rows")) == [52]
    assert values(study.by_k("m15", "-tokens")) == [51]


def test_the_published_study() -> None:
    study = paper()
    assert (study.name, study.n_problems, study.n_rows) == ("paper", 1319, 7473)
    assert set(study.n_seeds.values()) == {1}
    assert len(study.accuracy) == 12 + 7 + 2 * 5 * 7 + 7 * 4 + 1 + 4 + 7 + 7
    assert study.accuracy["LLaMA-33B", "u_all"].value == 57.9
    assert {k: of.value for k, of in study.paths["u_small"].items()} == {400: 12.84}
    assert study.paths.keys() == {*UP_TO_33B, "u_small", "u_all"}
    single, voted = study.votes["LLaMA2-13B", "k100"]
    assert (single.value, voted.value) == (54.8, 65.4)
    assert single is study.accuracy["LLaMA2-13B", "k100"]
    assert len(study.votes) == 4 + 7 + 4 + 4 + 5


def test_published_estimates_are_independent() -> None:
    study = paper()
    known = [*study.accuracy.values(), *(voted for _, voted in study.votes.values())]
    draws = np.array([of.draws - of.value for of in known if of.value > 5])
    together = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(together).max() < 0.12
