"""What ``scripts/miniature`` has run, as a Study; what is not there yet is left out."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from screl.ballots import Rules
from screl.completions import open_runs
from screl.estimates import Estimate, Resampler
from screl.files import UserError, read_json_object, read_jsonl
from screl.metrics import Floats
from screl.problems import Problem, load_problems
from screl.scoring import score_runs
from screl.study import Study

Key = tuple[str, str]


def miniature_study(runs: Path) -> Study:
    """The study under ``runs``, whose layout is that of ``scripts/miniature``.

    Accuracies are means over seeds. UserError if there is no ladder yet.
    """
    losses = {
        folder.parent.name: float(read_json_object(folder)["results"]["loss"]["value"])
        for folder in sorted(runs.glob("base/*/run.json"))
    }
    if not losses:
        raise UserError(f"{runs}: no base model there; first: bash scripts/miniature/run.sh")
    scores = {
        key: np.concatenate([_scores(store, "test") for store in stores])
        for key, stores in _greedy_stores(runs)
    }
    if not scores:
        raise UserError(f"{runs}: nothing was fine-tuned yet; first: bash scripts/miniature/run.sh")
    n_problems = next(iter(scores.values())).shape[1]
    of_test = Resampler(n_problems, scores.values())
    votes = {
        key: _scores(store, "vote", of_test) for key, stores in _stores(runs, "votes") for store in stores[:1]
    }
    raise NotImplementedError
