"""List the paper's claims, and decide each of them by a study's numbers.

The criteria were written with knowledge of the paper's numbers, before the runs of
scripts/miniature. Once the miniature's SFT scores, path counts, and one RFT score were known, cases
were added in which a claim is inconclusive. Means are over the models of a study, with intervals
for other problems and training seeds; intervals of slopes over loss are for other models.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from screl.analysis.estimates import (
    Points,
    Resampler,
    mean_estimate,
    slope_over,
    slope_per_doubling,
)
from screl.analysis.evidence import (
    Evidence,
    inconclusive,
    is_above,
    is_measurable,
    judge_mean,
    judge_slope,
    name_models,
    require_negligible,
    require_no_gain,
    require_no_loss,
    require_positive,
)
from screl.analysis.study import N_STABLE, Study

LINEAR = 0.9  # smallest R² of a relation that is linear; below NOT_LINEAR it is not
NOT_LINEAR = 0.5
LARGEST_K = "k100"


class Claim(NamedTuple):
    """A statement of the paper, its section, and the function that judges it by a study."""

    text: str
    section: str
    judge: Callable[[Study], Evidence]


def _linear_in_loss(study: Study) -> Evidence:
    criterion = f"slope of SFT accuracy over loss (points per nat) below 0, R² at least {LINEAR:g}"
    losses, accuracy = study.by_loss("sft")
    slope = slope_over(losses, accuracy)
    if slope is None:
        return Evidence(criterion, None, "inconclusive")
    outcome = is_above(-slope, 0.0)
    r_squared = float(np.corrcoef(losses, [one.value for one in accuracy])[0, 1] ** 2)
    if outcome == "held" and r_squared < LINEAR:
        outcome = "did not hold" if r_squared < NOT_LINEAR else "inconclusive"
    evidence = Evidence(criterion, slope, outcome, f"R² {r_squared:.3f}")
    return name_models(study.models("sft"), evidence)


def _icl_gap(study: Study) -> Evidence:
    gaps = study.gains("sft", over="icl")
    evidence = judge_slope("slope of (SFT - ICL) over loss (points per nat)", study, gaps)
    icl = [study.accuracy[model, "icl"] for model in gaps]
    if evidence.estimate and sum(map(is_measurable, icl)) < 3:  # the gap would be SFT itself
        best = max(one.value for one in icl)
        return name_models(gaps, inconclusive(evidence, f"ICL at most {best:.1f}%"))
    return evidence


def _constant_gain_per_doubling(study: Study) -> Evidence:
    """Require that no single model bends, since opposite bends would cancel in the mean."""
    bends = {}
    for model in study.models("sft"):
        y = study.by_stable_rows(model).y
        if len(y) == N_STABLE and is_measurable(y[-1]):
            bends[model] = (y[-1] - y[-2]) - (y[1] - y[0])
    criterion = "gain of the last doubling minus gain of the first, fractions 1/8 to 1"
    evidence = judge_mean(criterion, bends, require_negligible)
    outcomes = {model: require_negligible("", bend).outcome for model, bend in bends.items()}
    bent = [model for model, outcome in outcomes.items() if outcome == "did not hold"]
    if evidence.outcome == "held" and bent:
        return name_models(bends, inconclusive(evidence, f"{', '.join(bent)} bent"))
    return evidence


def _better_models_gain_less(study: Study) -> Evidence:
    rows = {model: study.by_stable_rows(model) for model in study.models("sft")}
    slopes = {
        m: slope_per_doubling(points) for m, points in rows.items() if len(points.x) == N_STABLE
    }
    return judge_slope("slope of (points per doubling of the data) over loss", study, slopes)


def _rft_beats_sft(study: Study) -> Evidence:
    return judge_mean(f"RFT {LARGEST_K} - SFT", study.gains(LARGEST_K))


def _more_samples_help(study: Study) -> Evidence:
    slopes = {model: slope_per_doubling(points) for model, points in study.k_sweeps().items()}
    return judge_mean("points per doubling of k", slopes)


def _diminishing_returns(study: Study) -> Evidence:
    """Compare gains per doubling; even if they are constant, each *sample* adds less."""
    less = {}
    for model, (x, y) in study.k_sweeps().items():
        middle = len(x) // 2
        early = slope_per_doubling(Points(x[: middle + 1], y[: middle + 1]))
        late = slope_per_doubling(Points(x[middle:], y[middle:]))
        less[model] = early - late
    return judge_mean("points per doubling of k up to the median k, minus those beyond it", less)


def _paths_beat_samples(study: Study) -> Evidence:
    return _judge_control("random correct rows", study, "-rows")


def _paths_beat_tokens(study: Study) -> Evidence:
    return _judge_control("tokens of random correct rows", study, "-tokens")


def _judge_control(of_control: str, study: Study, control: str) -> Evidence:
    """Compare RFT with its control; below k = 6 hardly any path is a duplicate."""
    gains = study.gains_over_control(control, min_k=6)
    criterion = f"RFT - RFT on as many {of_control}, mean over k from 6 up"
    evidence = require_positive(criterion, mean_estimate(gains.values()))
    return name_models({model for model, _ in gains}, evidence)


def _dedup_is_free(study: Study) -> Evidence:
    gains = {
        model: gain
        for (model, _), gain in study.gains_over_control("-no_dedup", min_k=100).items()
        if is_measurable(study.accuracy[model, LARGEST_K])
    }
    criterion = f"RFT {LARGEST_K} - the same without deduplication"
    return judge_mean(criterion, gains, require_no_loss)


def _rft_helps_weak_models_more(study: Study) -> Evidence:
    criterion = f"slope of (RFT {LARGEST_K} - SFT) over loss (points per nat)"
    return judge_slope(criterion, study, study.gains(LARGEST_K))


def _unions_help_weak_models_more(study: Study) -> Evidence:
    criterion = "slope of (RFT u_all - SFT) over loss (points per nat)"
    return judge_slope(criterion, study, study.gains("u_all"))


def _no_gain_for_the_strongest(study: Study) -> Evidence:
    criterion = f"RFT {LARGEST_K} - SFT for the strongest model that was sampled"
    models = study.models("sft", LARGEST_K)[-1:]
    if not models or not is_measurable(study.accuracy[models[0], "sft"]):
        return require_no_gain(criterion, None)
    return name_models(models, require_no_gain(criterion, study.gain(models[0], LARGEST_K)))


def _unions_help_more(study: Study) -> Evidence:
    return judge_mean(f"RFT u_small - RFT {LARGEST_K}", study.gains("u_small", over=LARGEST_K))


def _strong_models_add_little(study: Study) -> Evidence:
    gains = {
        model: gain
        for model, gain in study.gains("u_all", over="u_small").items()
        if is_measurable(study.accuracy[model, "u_small"])
    }
    return judge_mean("RFT u_all - RFT u_small", gains, require_no_gain)


def _strong_models_find_fewer_paths(study: Study) -> Evidence:
    found = {m: study.paths[m][100] for m in study.models("sft") if 100 in study.paths.get(m, {})}
    criterion = "slope of distinct paths per problem at k=100 over loss (paths per nat)"
    evidence = judge_slope(criterion, study, found)
    correct = [study.percent_correct[m] for m in found if m in study.percent_correct]
    if not correct or evidence.estimate is None:
        return evidence
    # the paper explains it by strong models having memorized the training problems
    shares = f"{min(correct):.1f} to {max(correct):.1f}% of samples correct"
    return evidence._replace(remark=f"{evidence.remark}, {shares}")


def _votes_beat_greedy(study: Study) -> Evidence:
    gains = {key: voted - one for key, (one, voted) in study.votes.items() if key[1] != "icl"}
    criterion = "maj1@100 - maj1@1, mean over all models and settings except ICL"
    evidence = require_positive(criterion, mean_estimate(gains.values()))
    return name_models({model for model, _ in gains}, evidence)


def _rft_improves_votes(study: Study) -> Evidence:
    models = [m for m in study.losses if {(m, "sft"), (m, LARGEST_K)} <= study.votes.keys()]
    gains = {m: study.votes[m, LARGEST_K][1] - study.votes[m, "sft"][1] for m in models}
    return judge_mean(f"maj1@100 of RFT {LARGEST_K} - maj1@100 of SFT", gains)


def _unions_find_more_test_paths(study: Study) -> Evidence:
    criterion = "distinct correct paths per test problem, RFT u_small - SFT, mean over models"
    counts = study.paths_on_test
    models = [m for m in study.losses if {(m, "sft"), (m, "u_small")} <= counts.keys()]
    if not models:
        return require_positive(criterion, None)
    per_problem = np.mean([counts[m, "u_small"] - counts[m, "sft"] for m in models], axis=0)
    mean = Resampler(len(per_problem), []).mean(per_problem)
    return name_models(models, require_positive(criterion, mean))


def _rft_beats_longer_sft(study: Study) -> Evidence:
    criterion = f"RFT {LARGEST_K} - SFT for as many steps"
    return judge_mean(criterion, study.gains(LARGEST_K, over="sft_matched"))


CLAIMS = (
    Claim("SFT accuracy is linear in pre-training loss", "3.1", _linear_in_loss),
    Claim("the lower the loss, the less SFT gains over ICL", "3.1", _icl_gap),
    Claim("each doubling of the data adds a constant gain, from 1/8 of it up", "3.2",
          _constant_gain_per_doubling),
    Claim("better models gain less per doubling of the data", "3.2", _better_models_gain_less),
    Claim("RFT beats SFT", "3.3", _rft_beats_sft),
    Claim("more samples per problem help", "3.3", _more_samples_help),
    Claim("each further doubling of k helps less", "3.3", _diminishing_returns),
    Claim("distinct paths beat as many correct samples", "3.3", _paths_beat_samples),
    Claim("distinct paths beat as many tokens of correct samples", "3.3", _paths_beat_tokens),
    Claim("deduplication costs nothing", "3.3", _dedup_is_free),
    Claim("RFT helps weaker models more", "abstract", _rft_helps_weak_models_more),
    Claim("RFT on the paths of all models helps weaker models more", "3.3",
          _unions_help_weak_models_more),
    Claim("the strongest model gains nothing from its own paths", "3.3",
          _no_gain_for_the_strongest),
    Claim("paths of several models help more than a model's own", "3.3", _unions_help_more),
    Claim("paths of the strong models add little to that", "3.3", _strong_models_add_little),
    Claim("stronger models find fewer distinct paths", "3.3", _strong_models_find_fewer_paths),
    Claim("a vote over 100 samples beats greedy decoding", "Table 6", _votes_beat_greedy),
    Claim("RFT improves the vote over 100 samples too", "Table 6", _rft_improves_votes),
    Claim("RFT on the paths of several models finds more paths on test problems", "4.1",
          _unions_find_more_test_paths),
    Claim("(not in the paper) RFT beats SFT for as many steps", "-", _rft_beats_longer_sft),
)  # fmt: skip
