"""Build studies from chosen numbers, each with a chosen uncertainty."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from screl.analysis.estimates import N_DRAWS, Estimate
from screl.analysis.fits import FittedRelation, fit_study
from screl.analysis.study import Key, Study, paper_study


def estimate(value: float, error: float = 0.1, name: str = "") -> Estimate:
    """Return an estimate with normal draws, independent of those with other names."""
    random = np.random.default_rng(list(f"{name} {value}".encode()))
    return Estimate(value, value + error * random.standard_normal(N_DRAWS))


def make_study(accuracy: Mapping[Key, float], error: float = 0.1, **fields: Any) -> Study:
    """Return a study of accuracies by model and setting; model m15 has a loss of 1.5."""
    models = sorted({model for model, _ in accuracy})
    made = {
        "name": "made",
        "test_set": "made problems",
        "n_problems": 1000,
        "n_rows": 512,
        "losses": {model: int(model[1:]) / 10 for model in models},
        "accuracy": {key: estimate(of, error, " ".join(key)) for key, of in accuracy.items()},
        "n_seeds": dict.fromkeys(accuracy, 3),
    }
    return Study(**(made | fields))


@cache
def paper() -> Study:
    """Return the published study."""
    return paper_study()


@cache
def paper_fits() -> list[FittedRelation]:
    """Return the fits of the published study, which take seconds."""
    return fit_study(paper())
