"""How scores and the names of runs are shown."""

import numpy as np

from screl.scoring.report import short_names, show_mean, show_metric


def test_every_score_has_its_uncertainty() -> None:
    assert show_mean(np.array([1.0, 1, 1, 0])) == "75.0 ± 25.0"
    assert show_mean(np.zeros(64)) == "0.0 [0.0, 5.6]"
    assert show_mean(np.ones(1)) == "100.0 [2.5, 100.0]"
    assert show_metric(33.3, 1e-15, 64).startswith("33.3 [")  # a rounding error is no uncertainty


def test_names_of_runs_are_shown_without_the_folder_they_share() -> None:
    assert short_names(["runs/a/greedy"]) == ("run", ["runs/a/greedy"])
    assert short_names(["runs/a/greedy", "runs/b/greedy"]) == (
        "run (in runs)",
        ["a/greedy", "b/greedy"],
    )
    assert short_names(["runs/ab", "runs/ac"])[1] == ["ab", "ac"]
    assert short_names(["a", "runs/b"]) == ("run", ["a", "runs/b"])
