"""What the paper measured, in one shape for its own numbers and for runs made here.

*Settings* name what a base model was made into, as folders of ``scripts/miniature`` do:
``icl`` (exemplars in the prompt), ``sft``, ``part8-epochs3`` (SFT on 1/8 of the data), ``k100``
(RFT), ``k100-no_dedup``, ``k100-rows`` and ``k100-tokens`` (random right samples instead, as many
rows or tokens), ``sft_matched`` (the solutions alone, for as many steps), ``u_small`` and ``u_all``
(RFT on the samples of several models).
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from screl.analysis import published_numbers as paper
from screl.analysis.estimates import Estimate, exactly, published_estimate
from screl.scoring.statistics import Floats

N_GSM8K_TRAIN, N_GSM8K_TEST = 7473, 1319
# of the paper's settings
OUR_NAMES = {"rft": "k100", "rft_u13b": "u_small", "rft_u33b": "u_all"}


CAUTIONS = (
    "Every number is of a single run. Its interval is binomial and takes models as independent; "
    "what training seeds, sampling and shared problems do to it is not known.",
    "Losses are of different corpora and tokenizers; the authors warn against a regression on "
    "them. Seven of them, and GPT-3's accuracies, are read off Figure 2.",
    "GPT-4's accuracy is 5-shot ICL, which the figure draws on the SFT line.",
    "Of two numbers of epochs the parts of the data take the better one, on the test problems.",
)


class Points(NamedTuple):
    """Estimates at several x, x rising."""

    x: list[float]
    y: list[Estimate]


Key = tuple[str, str]  # base model, setting


@dataclass(frozen=True)
class Study:
    """Losses in nats a token; accuracies, maj1@1 of greedy completions, in percent."""

    name: str
    test_set: str
    n_problems: int  # of the test set
    n_rows: int  # human-written solutions
    losses: dict[str, float]
    accuracy: dict[Key, Estimate]
    n_seeds: dict[Key, int]
    # maj1@1 and maj1@100 on the same problems, and how many these are
    n_vote_problems: int = 0
    votes: dict[Key, tuple[Estimate, Estimate]] = field(default_factory=dict)
    # distinct paths a training problem, the solution's too, by the number of samples: of base
    # models, and of u_small and u_all
    paths: dict[str, dict[int, Estimate]] = field(default_factory=dict)
    # right samples of training problems, percent
    right: dict[str, float] = field(default_factory=dict)
    # distinct right paths of every test problem among the voting samples, (problems,)
    test_paths: dict[Key, Floats] = field(default_factory=dict)
    # that made a base model; that a setting took beyond it (sft) or beyond SFT (all others)
    pretraining_flops: dict[str, float] = field(default_factory=dict)
    flops: dict[Key, float] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()  # what a reader must know to read the numbers

    def models(self, *settings: str) -> list[str]:
        """Those with an accuracy in all ``settings``; weakest, of the highest loss, first."""
        known = [
            m for m in self.losses if all((m, setting) in self.accuracy for setting in settings)
        ]
        return sorted(known, key=lambda model: -self.losses[model])

    def by_loss(self, setting: str) -> Points:
        """Estimate over pre-training loss, of all models."""
        models = self.models(setting)[::-1]
        return Points(
            [self.losses[model] for model in models],
            [self.accuracy[model, setting] for model in models],
        )

    def by_rows(self, model: str) -> Points:
        """SFT over the number of solutions; of the paper's two epoch settings the better one."""
        best = {self.n_rows: self.accuracy[model, "sft"]}
        for (of, setting), accuracy in self.accuracy.items():
            if of == model and (part := re.match(r"part(\d+)-", setting)):
                rows = self.n_rows // int(part[1])
                best[rows] = max(best.get(rows, accuracy), accuracy, key=lambda a: a.value)
        return Points(sorted(best), [best[rows] for rows in sorted(best)])

    def by_k(self, model: str, control: str = "") -> Points:
        """RFT over k; ``control`` is ``-no_dedup``, ``-rows`` or ``-tokens``."""
        found = {
            int(k[1]): accuracy
            for (of, setting), accuracy in self.accuracy.items()
            if of == model and (k := re.fullmatch(rf"k(\d+){control}", setting))
        }
        return Points(sorted(found), [found[k] for k in sorted(found)])

    def by_paths(self, model: str) -> Points:
        """RFT over the number of distinct paths a problem, the solution among them, where known."""
        paths, of_k = self.paths.get(model, {}), zip(*self.by_k(model), strict=True)
        known = [(paths[int(k)].value, accuracy) for k, accuracy in of_k if k in paths]
        return Points([x for x, _ in known], [accuracy for _, accuracy in known])


def paper_study() -> Study:
    """The published figures (``data/paper``), all of single runs on GSM8K."""
    percents = {
        (row.of["model"], row.of["quantity"]): row.value for row in paper.rows("pretraining_loss")
    }
    losses = {
        model: percents.pop((model, what)) for model, what in list(percents) if what == "loss"
    }
    for row in paper.rows("sft_data_amount"):
        part = row.of["fraction"].removeprefix("1/")
        if part != "1":
            percents[row.of["model"], f"part{part}-epochs{row.of['epochs']}"] = row.value
    for row in paper.rows("rft_by_k"):
        if setting := _setting(row.of):
            percents[row.of["model"], setting] = row.value
    paths: dict[str, dict[int, Estimate]] = {}
    for row in paper.rows("distinct_paths"):
        source = OUR_NAMES.get(f"rft_{row.of['model']}", row.of["model"])
        paths.setdefault(source, {})[int(row.of["k"])] = exactly(row.value)
    accuracy = {key: _published(key, "maj1@1", percent) for key, percent in percents.items()}
    votes = {}
    for row in paper.rows("maj_at_100", metric="maj1@100"):
        key = row.of["model"], OUR_NAMES.get(row.of["setting"], row.of["setting"])
        votes[key] = accuracy[key], _published(key, "maj1@100", row.value)
    cost = {
        (row.of["model"], row.of["stage"]): row.value
        for row in paper.rows("cost", quantity="flops")
    }
    flops = {}
    for model, _ in cost:
        flops[model, "sft"] = cost[model, "sft"]
        # Table 4's RFT is on U33B
        flops[model, "u_all"] = cost[model, "rft_inference"] + cost[model, "rft_train"]
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
        right={
            row.of["model"]: row.value  # of 100 samples a problem
            for row in paper.rows("correct_paths", quantity="correct", temperature="0.7")
        },
        pretraining_flops={
            model: value for (model, stage), value in cost.items() if stage == "pretrain"
        },
        flops=flops,
        cautions=CAUTIONS,
    )


def _setting(row: dict[str, str]) -> str | None:
    """Our name of a row of rft_by_k; None for parts of the samples that were not de-duplicated."""
    of_k = {"rft": f"k{row['k']}", "rft_no_dedup": f"k{row['k']}-no_dedup"}
    return (OUR_NAMES | of_k).get(row["setting"])


def _published(key: Key, metric: str, percent: float) -> Estimate:
    return published_estimate(percent, N_GSM8K_TEST, " ".join([*key, metric]))
