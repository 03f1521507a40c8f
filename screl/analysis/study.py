"""Represent the results of a study: the paper's published numbers, or runs made here.

A *setting* names the treatment of a base model, like the folders of ``scripts/miniature``:
``icl`` (exemplars in the prompt), ``sft``, ``part8-epochs3`` (SFT on 1/8 of the data), ``k100``
(RFT), its controls ``k100-no_dedup`` (every correct sample), ``k100-rows`` and ``k100-tokens``
(random correct samples, as many rows or tokens), ``sft_matched`` (SFT for as many steps as RFT),
and ``u_small`` and ``u_all`` (RFT on the samples of several models).
"""

import re
from dataclasses import dataclass, field

from screl.analysis.estimates import Estimate, Points, exact_estimate, published_estimate
from screl.analysis.published_numbers import published_numbers
from screl.scoring.statistics import Floats

N_GSM8K_TRAIN, N_GSM8K_TEST = 7473, 1319
N_STABLE = 4  # the paper finds its law of data amounts stable for 1, 1/2, 1/4, and 1/8 (3.2)
OUR_NAMES = {"rft": "k100", "rft_u13b": "u_small", "rft_u33b": "u_all"}  # by the paper's names

CAUTIONS = (
    "Every score comes from a single run. Intervals are binomial and treat models as independent; "
    "the effects of training seeds, of sampling, and of shared test problems are unknown.",
    "Losses come from different corpora and tokenizers, and the authors warn against regressing on "
    "them. Seven losses and GPT-3's accuracies are read off Figure 2.",
    "GPT-4's accuracy is 5-shot ICL, although the figure plots it on the SFT line.",
    "For each fraction of the data, the better of two epoch settings is used, chosen on the test "
    "problems.",
)

Key = tuple[str, str]  # base model, setting


@dataclass(frozen=True)
class Study:
    """The results of a study: losses in nats per token, accuracies (greedy maj1@1) in percent."""

    name: str
    test_set: str
    n_problems: int  # in the test set
    n_rows: int  # human-written solutions in the training set
    losses: dict[str, float]
    accuracy: dict[Key, Estimate]
    n_seeds: dict[Key, int]
    n_vote_problems: int = 0
    votes: dict[Key, tuple[Estimate, Estimate]] = field(default_factory=dict)  # maj1@1, maj1@100
    # Distinct paths per training problem, including the solution's, by number of samples; for base
    # models, u_small, and u_all.
    paths: dict[str, dict[int, Estimate]] = field(default_factory=dict)
    percent_correct: dict[str, float] = field(default_factory=dict)  # samples of training problems
    # Distinct correct paths of each test problem among the voting samples, (problems,).
    paths_on_test: dict[Key, Floats] = field(default_factory=dict)
    pretraining_flops: dict[str, float] = field(default_factory=dict)
    flops: dict[Key, float] = field(default_factory=dict)  # beyond the base model, or beyond SFT
    cautions: tuple[str, ...] = ()  # facts that a reader must know

    def models(self, *settings: str) -> list[str]:
        """Return the models with an accuracy in all ``settings``, weakest (highest loss) first."""
        known = [
            m for m in self.losses if all((m, setting) in self.accuracy for setting in settings)
        ]
        return sorted(known, key=lambda model: -self.losses[model])

    def gain(self, model: str, setting: str, over: str = "sft") -> Estimate:
        """Return the points that a setting gains over another one."""
        return self.accuracy[model, setting] - self.accuracy[model, over]

    def gains(self, setting: str, over: str = "sft") -> dict[str, Estimate]:
        """Return ``gain`` for all models measured in both settings, weakest first."""
        return {model: self.gain(model, setting, over) for model in self.models(over, setting)}

    def gains_over_control(self, control: str, min_k: int) -> dict[tuple[str, float], Estimate]:
        """Return the gains of RFT over its control, by model and by k from ``min_k`` up."""
        gains = {}
        for model in self.losses:
            of_rft = dict(zip(*self.by_k(model), strict=True))
            of_control = dict(zip(*self.by_k(model, control), strict=True))
            for k in sorted(k for k in of_rft.keys() & of_control.keys() if k >= min_k):
                gains[model, k] = of_rft[k] - of_control[k]
        return gains

    def by_loss(self, setting: str) -> Points:
        """Return the accuracy of all models over their pre-training loss."""
        models = self.models(setting)[::-1]
        return Points(
            [self.losses[model] for model in models],
            [self.accuracy[model, setting] for model in models],
        )

    def by_rows(self, model: str) -> Points:
        """Return SFT accuracy over the number of solutions; the better of two epoch settings."""
        best = {self.n_rows: self.accuracy[model, "sft"]}
        for (of, setting), accuracy in self.accuracy.items():
            if of == model and (part := re.match(r"part(\d+)-", setting)):
                rows = self.n_rows // int(part[1])
                best[rows] = max(best.get(rows, accuracy), accuracy, key=lambda a: a.value)
        return Points(sorted(best), [best[rows] for rows in sorted(best)])

    def by_stable_rows(self, model: str) -> Points:
        """Return ``by_rows`` for 1/8 of the data and more."""
        rows = self.by_rows(model)
        n = sum(x >= self.n_rows // 2 ** (N_STABLE - 1) for x in rows.x)
        return Points(rows.x[-n:], rows.y[-n:])

    def by_k(self, model: str, control: str = "") -> Points:
        """Return RFT accuracy over k; ``control`` is ``-no_dedup``, ``-rows``, or ``-tokens``."""
        found = {
            int(k[1]): accuracy
            for (of, setting), accuracy in self.accuracy.items()
            if of == model and (k := re.fullmatch(rf"k(\d+){control}", setting))
        }
        return Points(sorted(found), [found[k] for k in sorted(found)])

    def by_paths(self, model: str) -> Points:
        """Return RFT accuracy over distinct paths per problem, where these were counted."""
        paths, of_k = self.paths.get(model, {}), zip(*self.by_k(model), strict=True)
        known = [(paths[int(k)].value, accuracy) for k, accuracy in of_k if k in paths]
        return Points([x for x, _ in known], [accuracy for _, accuracy in known])

    def k_sweeps(self) -> dict[str, Points]:
        """Return ``by_k`` of the models with four or more values of k."""
        sweeps = {model: self.by_k(model) for model in self.models("sft")}
        return {model: points for model, points in sweeps.items() if len(points.x) >= 4}


def paper_study() -> Study:
    """Return the published numbers (``data/paper``), all of single runs on GSM8K."""
    percents, losses = _published_percents()
    accuracy = {key: _published(key, "maj1@1", percent) for key, percent in percents.items()}
    votes = {}
    for row in published_numbers("maj_at_100", metric="maj1@100"):
        setting = row.columns["setting"]
        key = row.columns["model"], OUR_NAMES.get(setting, setting)
        votes[key] = accuracy[key], _published(key, "maj1@100", row.value)
    paths: dict[str, dict[int, Estimate]] = {}
    for row in published_numbers("distinct_paths"):
        source = OUR_NAMES.get(f"rft_{row.columns['model']}", row.columns["model"])
        paths.setdefault(source, {})[int(row.columns["k"])] = exact_estimate(row.value)
    flops, of_pretraining = {}, {}
    costs = {
        (row.columns["model"], row.columns["stage"]): row.value
        for row in published_numbers("cost", quantity="flops")
    }
    for model in dict.fromkeys(model for model, _ in costs):
        of_pretraining[model] = costs[model, "pretrain"]
        flops[model, "sft"] = costs[model, "sft"]
        # Table 4's RFT is on U33B
        flops[model, "u_all"] = costs[model, "rft_inference"] + costs[model, "rft_train"]
    return Study(
        name="paper",
        test_set="GSM8K",
        n_problems=N_GSM8K_TEST,
        n_rows=N_GSM8K_TRAIN,
        losses=losses,
        accuracy=accuracy,
        n_seeds=dict.fromkeys(accuracy, 1),
        n_vote_problems=N_GSM8K_TEST,
        votes=votes,
        paths=paths,
        percent_correct={
            row.columns["model"]: row.value  # of 100 samples per problem
            for row in published_numbers("correct_paths", quantity="correct", temperature="0.7")
        },
        pretraining_flops=of_pretraining,
        flops=flops,
        cautions=CAUTIONS,
    )


def _published_percents() -> tuple[dict[Key, float], dict[str, float]]:
    """Return every published accuracy, by model and setting, and the pre-training losses."""
    percents, losses = {}, {}
    for row in published_numbers("pretraining_loss"):
        model, quantity = row.columns["model"], row.columns["quantity"]
        if quantity == "loss":
            losses[model] = row.value
        else:
            percents[model, quantity] = row.value
    for row in published_numbers("sft_data_amount"):
        part = row.columns["fraction"].removeprefix("1/")
        if part != "1":
            setting = f"part{part}-epochs{row.columns['epochs']}"
            percents[row.columns["model"], setting] = row.value
    for row in published_numbers("rft_by_k"):
        k = row.columns["k"]
        names = OUR_NAMES | {"rft": f"k{k}", "rft_no_dedup": f"k{k}-no_dedup"}
        # other rows repeat SFT or train on parts of the samples
        if (setting := row.columns["setting"]) in names:
            percents[row.columns["model"], names[setting]] = row.value
    return percents, losses


def _published(key: Key, metric: str, percent: float) -> Estimate:
    return published_estimate(percent, N_GSM8K_TEST, " ".join([*key, metric]))
