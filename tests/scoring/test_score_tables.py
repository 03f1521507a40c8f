"""How scores are shown."""

import numpy as np

from screl.scoring.report import short_names, show_mean, show_metric


def test_never_a_bare_number() -> None:
    assert show_mean(np.array([1.0, 1, 1, 0])) == "75.0 ± 25.0"
    assert show_mean(np.zeros(64)) == "0.0 [0.0, 5.6]"
    assert show_mean(np.ones(1)) == "100.0 [2.5, 100.0]"
    assert show_metric(33.3, 1e-15, 64).startswith("33.3 [")  # rounding is no error


def test_names_of_runs_lose_the_folder_that_they_share() -> None:
    assert short_names(["runs/a/greedy"]) == ("run", ["runs/a/greedy"])
    assert short_names(["runs/a/greedy", "runs/b/greedy"]) == (
        "run (in runs)",
        ["a/greedy", "b/greedy"],
    )
    assert short_names(["runs/ab", "runs/ac"])[1] == ["ab", "ac"]
    assert short_names(["a", "runs/b"]) == ("run", ["a", "runs/b"])
    assert short_names(["/x/a", "y/a"]) == ("run", ["/x/a", "y/a"])
