"""What is wrong with a sampling run, told while it runs, before it has cost days.

Repeats. Seeds that are copied or reused make samples of a problem equal, but so does a problem that
the model is sure of. How many repeats are honest is known exactly: given the earlier samples of a
problem, the next one repeats one of them with the sum of the probabilities of the different
completions among them. So the likelihood ratio of all that happened, of repeats being likelier than
that against this, has mean 1 or less in a healthy run, at any time, for any number of problems and
samples: that it ever exceeds 1000 has a chance of 1 in 1000 at most (Ville's inequality).

Cut off, no answer. Samples of a problem are alike, so a share counts as that of so many problems,
not samples; the alarm is on its exact (Clopper-Pearson) lower limit.

What a sampling run has come to: sizes, right answers, and whether more of it would help.
"""

import math
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from screl.core.problems import Problem, ProblemId
from screl.grading.answers import extract_answer
from screl.grading.verdict import make_judge
from screl.samples.reader import Run, map_problems
from screl.samples.store import Sample
from screl.sampling.path_estimate import describe_estimate, expected_new_paths

# How many times likelier the odds of a repeat may be than the probabilities say; all are tried, as
# every second sample copied is another thing than all, and an easy problem another than a hard one.
ODDS_RATIOS = (2.0, 10.0, 100.0)
# Probabilities are computed in bfloat16, in a batch of other samples than those they are compared
# with; an error of 10 % in each is not to add up to an alarm.
TOLERANCE = 1.1
FALSE_ALARMS = 1e-3

# One in twenty of GSM8K's own solutions is longer than the paper's 256 tokens (words, digits and
# signs counted, times 1.1), so about as many are cut off honestly. They are the long ones: if they
# are more, paths are lost where they are wanted most.
MOST_CUT_OFF = 0.10
# A model trained on solutions hardly ever ends without an answer (five runs of small ones: 0 to
# 1.2 %).
MOST_UNANSWERED = 0.20


@dataclass(slots=True)
class Share:
    """Of samples of some problems, how many are of a kind."""

    n_samples: int = 0
    n_found: int = 0
    problems: set[ProblemId] = field(default_factory=set)

    def add(self, problem_id: ProblemId, is_found: bool) -> None:
        self.n_samples += 1
        self.n_found += is_found
        self.problems.add(problem_id)

    def lower_limit(self) -> float:
        """What the share is at least, as sure as FALSE_ALARMS says; 0 if none was found."""
        from scipy.special import betaincinv  # takes a while

        if self.n_found == 0:
            return 0.0
        n = len(self.problems)
        n_found = n * self.n_found / self.n_samples
        return float(betaincinv(n_found, n - n_found + 1, FALSE_ALARMS))


@dataclass(slots=True)
class Repeats:
    """Samples that repeat an earlier one of their problem: how many, and how many were expected.

    ``log_ratios``: the logarithm of the likelihood ratio for each of ODDS_RATIOS.
    """

    n_samples: int = 0
    n_repeats: int = 0
    n_expected: float = 0.0
    log_ratios: Sequence[float] = (0.0,) * len(ODDS_RATIOS)
    seen: dict[ProblemId, set[Hashable]] = field(default_factory=dict)
    chance: dict[ProblemId, float] = field(default_factory=dict)  # that the next one is a repeat

    def add(self, problem_id: ProblemId, completion: Hashable, log_probability: float) -> None:
        """One more sample, whose probability had that (natural) logarithm when it was drawn.

        That is after temperature, top-k and top-p, and with EOS if it was drawn. ``completion``
        should be its token ids: one text can be written with several. Samples of a problem must
        come in an order that does not depend on what they say, see InOrder. ValueError for what is
        no logarithm of a probability.
        """
        if not log_probability < 0.01:  # NaN is not either
            raise ValueError(f"{log_probability} is not the logarithm of a probability")
        seen = self.seen.setdefault(problem_id, set())
        chance = min(1.0, self.chance.get(problem_id, 0.0))
        is_repeat = completion in seen
        self.n_samples += 1
        self.n_repeats += is_repeat
        self.n_expected += chance
        at_most = min(1.0, TOLERANCE * chance)
        self.log_ratios = [
            log_ratio + is_repeat * math.log(odds) - math.log1p(at_most * (odds - 1))
            for log_ratio, odds in zip(self.log_ratios, ODDS_RATIOS, strict=True)
        ]
        if not is_repeat:
            seen.add(completion)
            self.chance[problem_id] = chance + math.exp(log_probability)

    def are_explained(self) -> bool:
        """Whether the mean of the likelihood ratios is below what a healthy run may reach."""
        most = max(self.log_ratios)
        mean = sum(math.exp(log_ratio - most) for log_ratio in self.log_ratios) / len(ODDS_RATIOS)
        return most + math.log(mean) < -math.log(FALSE_ALARMS)


class InOrder:
    """Holds back what comes too early. Completions of one length come together, so in the order of
    arrival one more like the last is likelier than its probability says; in that of sample_id not.
    """

    def __init__(self) -> None:
        self._expected: dict[ProblemId, deque[int]] = {}
        self._held: dict[ProblemId, dict[int, Any]] = {}

    def expect(self, problem_id: ProblemId, sample_ids: Iterable[int]) -> None:
        """These samples of a problem come next, in this order."""
        self._expected.setdefault(problem_id, deque()).extend(sample_ids)

    def add(self, problem_id: ProblemId, sample_id: int, what: Any) -> Iterator[Any]:
        """What is not too early any more, in order."""
        expected = self._expected[problem_id]
        held = self._held.setdefault(problem_id, {})
        held[sample_id] = what
        while expected and expected[0] in held:
            yield held.pop(expected.popleft())


@dataclass(slots=True)
class Health:
    """What a run has shown so far: ``add`` every sample; ``repeats`` of the problems watched."""

    cut_off: Share = field(default_factory=Share)
    unanswered: Share = field(default_factory=Share)  # of those that were not cut off
    repeats: Repeats = field(default_factory=Repeats)

    def add(self, sample: Sample, has_answer: bool) -> None:
        """One more sample, and whether an answer can be read in it."""
        is_cut_off = sample.finish_reason == "length"
        self.cut_off.add(sample.problem_id, is_cut_off)
        if not is_cut_off:
            self.unanswered.add(sample.problem_id, not has_answer)


def run_alarms(health: Health) -> dict[str, str]:
    """For each thing that is wrong, by a short name, a line with a remedy; empty in a healthy run.

    Can be asked at any time. A problem or two never raise an alarm about cut off or unanswered
    samples: they may be odd ones.
    """
    lines = {}
    repeats, cut_off, unanswered = health.repeats, health.cut_off, health.unanswered
    if not repeats.are_explained():
        lines["repeats"] = (
            f"{repeats.n_repeats} of {repeats.n_samples} samples repeat an earlier one of their "
            f"problem, and their probabilities explain {repeats.n_expected:.1f}: random seeds are "
            "used twice; give every sample its own and sample again"
        )
    if (at_least := cut_off.lower_limit()) > MOST_CUT_OFF:
        lines["cut_off"] = _describe(cut_off, "are cut off by --max_new_tokens") + _remedy(at_least)
    if unanswered.lower_limit() > MOST_UNANSWERED:
        lines["no_answer"] = (
            _describe(unanswered, "end without a readable '#### answer'")
            + "a base model, or one trained with another prompt? give --model_name_or_path a "
            "fine-tuned model, or a base model with --prompt icl, and look at the prompt with "
            "--dry_run"
        )
    return lines


def _describe(share: Share, what: str) -> str:
    return (
        f"{share.n_found / share.n_samples:.1%} of {share.n_samples} samples "
        f"({len(share.problems)} problems) {what}: "
    )


def _remedy(at_least: float) -> str:
    """For samples that are cut off: most of them, and it is hardly their length."""
    if at_least > 0.5:
        return (
            "the model does not end; a base model without --prompt icl, another prompt than it was "
            "trained with, or an end-of-sequence token that is not its own?"
        )
    return "raise --max_new_tokens"


N_MORE = 100  # samples a problem: the paper's k


class ProblemTally(NamedTuple):
    """Of one problem: the tokens of each sample, how many are cut off, can be graded and are right,
    and how often each right path was seen (the strict filter's, the solution's own too)."""

    lengths: list[int]
    n_cut_off: int
    n_graded: int
    n_right: int
    path_counts: list[int]


class RunSummary(NamedTuple):
    """Numbers for run.json; what to print of whether more samples would bring new paths ("" for a
    greedy run and where no solution has an answer); of each problem the tokens of its samples."""

    results: dict[str, Any]
    more: str
    lengths: list[list[int]]


def tally_problem(problem: Problem, completions: Sequence[Sequence[Sample]]) -> ProblemTally:
    """``completions``: of the one run."""
    (of_run,) = completions
    lengths = [completion.n_tokens or 0 for completion in of_run]
    n_cut_off = sum(completion.is_cut_off is True for completion in of_run)
    if extract_answer(problem.solution, "strict") is None:  # nothing to be right about
        return ProblemTally(lengths, n_cut_off, 0, 0, [])
    judge = make_judge(problem, "strict")
    verdicts = [judge(completion.completion) for completion in of_run]
    wrong = ("no_answer", "wrong_answer")
    n_right = sum(verdict.reason not in wrong for verdict in verdicts)
    paths = Counter(verdict.path for verdict in verdicts if verdict.reason == "valid")
    return ProblemTally(
        lengths=lengths,
        n_cut_off=n_cut_off,
        n_graded=len(of_run),
        n_right=n_right,
        path_counts=sorted(paths.values()),
    )


def summarize_run(problems: Sequence[Problem], run: Run) -> RunSummary:
    """What there is of ``problems`` in ``run``."""
    found = list(map_problems(tally_problem, problems, [run]))
    lengths = [one.lengths for one in found]
    n_samples = sum(map(len, lengths))
    n_graded = sum(one.n_graded for one in found)
    results = {
        "n_samples": n_samples,
        "n_tokens": sum(map(sum, lengths)),
        # a run may have made nothing, and no solution may have an answer
        "share_cut_off": sum(one.n_cut_off for one in found) / max(1, n_samples),
        "share_right": sum(one.n_right for one in found) / n_graded if n_graded else None,
    }
    if run.greedy or not any(one.path_counts for one in found):
        return RunSummary(results, "", lengths)
    counts = [one.path_counts for one in found]
    estimate = expected_new_paths(counts, list(map(len, lengths)), N_MORE)
    more = describe_estimate(estimate, N_MORE)
    return RunSummary(results | {"more_samples": more}, more, lengths)
