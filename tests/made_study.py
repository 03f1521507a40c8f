"""Studies made of chosen numbers, each as sure as wanted."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from screl.analysis.estimates import N_DRAWS, Estimate
from screl.analysis.fits import Fitted, fit_study
from screl.analysis.study import Key, Study, paper_study


def estimate(value: float, error: float = 0.1, name: str = "") -> Estimate:
    """Of normal draws with this standard error, independent of those of other names."""
    random = np.random.default_rng(list(f"{name} {value}".encode()))
    return Estimate(value, value + error * random.standard_normal(N_DRAWS))


def make_study(accuracy: Mapping[Key, float], error: float = 0.1, **fields: Any) -> Study:
    """Of accuracies by model and setting; the model m15 has a loss of 1.5."""
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
    """The published study."""
    return paper_study()


@cache
def paper_fits() -> list[Fitted]:
    """Its fits, which take seconds."""
    return fit_study(paper())
