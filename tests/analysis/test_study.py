"""The published numbers as a study, and points of a study made by hand."""

import numpy as np
import pytest

from screl.analysis.differences import per_doubling
from screl.analysis.fits import largest_parts
from screl.analysis.study import Points
from tests.analysis.test_published_numbers import LLAMAS, UP_TO_13B, UP_TO_33B
from tests.made_study import make_study, paper


def values(points: Points) -> list[float]:
    return [estimate.value for estimate in points.y]


def test_models_come_weakest_first() -> None:
    assert paper().models("icl") == LLAMAS
    assert paper().models("sft", "k100") == UP_TO_33B
    everyone = paper().models()
    assert everyone[:4] == ["GPT-3-3B", "GPT-3-6B", "GPT-3-12B", "LLaMA-7B"]
    assert everyone[-1] == "GPT-4"
    assert len(everyone) == 12
    study = make_study({("m15", "sft"): 1, ("m12", "sft"): 2, ("m18", "sft"): 3, ("m16", "icl"): 4})
    assert study.models("sft") == ["m18", "m15", "m12"]
    assert study.models("sft", "icl") == []


@pytest.mark.parametrize(("setting", "line"), [("sft", (196.2, -88.16)), ("icl", (307.7, -166.4))])
def test_the_lines_over_loss_are_those_of_figure_2(setting: str, line: tuple[float, float]) -> None:
    points = paper().by_loss(setting)
    assert points.x == sorted(points.x)
    fitted = np.polyfit(points.x, values(points), 1)[::-1]
    assert np.round(fitted, 1).tolist() == np.round(line, 1).tolist()
    assert fitted[1] == pytest.approx(line[1], abs=0.05)


def test_sft_on_parts_of_the_data_takes_the_better_of_two_settings() -> None:
    points = paper().by_rows("LLaMA-7B")
    assert points.x == [7473 // 32, 7473 // 16, 7473 // 8, 7473 // 4, 7473 // 2, 7473]
    assert values(points) == [9.5, 14.3, 17.9, 22.7, 30.9, 35.9]
    strongest = paper().by_rows("LLaMA2-70B")
    assert values(strongest) == [27.4, 52.8, 57.8, 57.8, 61.0, 63.2]
    (best,) = [e for e in strongest.y if e.value == 27.4]
    assert best is paper().accuracy["LLaMA2-70B", "part32-epochs96"]


def test_the_gain_per_doubling_of_the_data() -> None:
    gains = [per_doubling(largest_parts(paper(), model)).value for model in LLAMAS]
    assert gains == pytest.approx([6.22, 6.59, 7.92, 5.76, 5.21, 4.51, 1.94], abs=0.005)


def test_rft_over_k() -> None:
    points = paper().by_k("LLaMA-13B")
    assert points.x == [1, 3, 6, 12, 25, 50, 100]
    assert values(points) == [42.7, 45.2, 46.8, 48.0, 46.0, 49.4, 49.1]
    assert [per_doubling(paper().by_k(m)).value for m in UP_TO_13B] == pytest.approx(
        [0.58, 0.56, 0.90, 0.44], abs=0.005
    )
    assert values(paper().by_k("LLaMA-13B", "-no_dedup")) == [46.9]
    assert values(paper().by_k("LLaMA-33B")) == [54.5]
    assert paper().by_k("LLaMA-65B") == ([], [])
    assert paper().by_k("LLaMA-13B", "-rows") == ([], [])


def test_rft_over_distinct_paths() -> None:
    points = paper().by_paths("LLaMA2-7B")
    assert points.x == [1.19, 1.47, 1.78, 2.23, 2.93, 3.91, 5.19]
    assert values(points) == values(paper().by_k("LLaMA2-7B"))
    assert paper().by_paths("GPT-4") == ([], [])


def test_settings_are_told_apart_by_their_whole_name() -> None:
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


def test_where_paths_were_not_counted_there_is_no_point() -> None:
    accuracy = {("m15", "sft"): 50, ("m15", "k2"): 55, ("m15", "k10"): 60}
    assert make_study(accuracy).by_paths("m15") == ([], [])
    counted = make_study(accuracy, paths={"m15": {2: make_study(accuracy).accuracy["m15", "k2"]}})
    assert counted.by_paths("m15").x == [55]
    assert values(counted.by_paths("m15")) == [55]


def test_the_published_study() -> None:
    study = paper()
    assert (study.name, study.n_problems, study.n_rows) == ("paper", 1319, 7473)
    assert set(study.n_seeds.values()) == {1}
    assert study.n_seeds.keys() == study.accuracy.keys()
    assert study.test_paths == {}
    assert len(study.accuracy) == 12 + 7 + 2 * 5 * 7 + 7 * 4 + 1 + 4 + 7 + 7
    assert study.accuracy["LLaMA-33B", "u_all"].value == 57.9
    assert study.accuracy["LLaMA-33B", "u_small"].value == 56.5
    assert {k: of.value for k, of in study.paths["u_small"].items()} == {400: 12.84}
    assert {k: of.value for k, of in study.paths["u_all"].items()} == {500: 13.65}
    assert study.paths.keys() == {*UP_TO_33B, "u_small", "u_all"}
    single, voted = study.votes["LLaMA2-13B", "k100"]
    assert (single.value, voted.value) == (54.8, 65.4)
    assert single is study.accuracy["LLaMA2-13B", "k100"]
    assert len(study.votes) == 4 + 7 + 4 + 4 + 5
    assert {setting for _, setting in study.votes} == {"icl", "sft", "k100", "u_small", "u_all"}


def test_no_two_published_numbers_share_their_draws() -> None:
    study = paper()
    known = [*study.accuracy.values(), *(voted for _, voted in study.votes.values())]
    draws = np.array([of.draws - of.value for of in known if of.value > 5])
    together = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(together).max() < 0.12
