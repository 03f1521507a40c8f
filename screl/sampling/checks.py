"""Warn early about a sampling run that looks wrong, before it has cost days.

Identical samples are a sign of copied or reused random seeds. For samples that are cut off or have
no answer, the alarm depends on the exact (Clopper-Pearson) lower limit of their share. Samples of
one problem resemble each other, so each problem counts as one observation.
"""

from dataclasses import dataclass, field

from screl.core.problems import ProblemId
from screl.samples.store import Sample

GROUP_SIZE = 8  # samples with consecutive sample_ids
MIN_TEMPERATURE = 0.5  # below, a healthy run may well write the same text eight times
MIN_PROBLEMS = 20
# Eight independent samples are all alike with probability p^8, where p is the probability of the
# likeliest text. For half of the groups to be alike, p must be 0.92 on a typical problem. A
# well-trained model reaches that on easy problems, but hardly ever on most of a data set. With
# copied seeds, all groups are alike.
MOST_IDENTICAL = 0.5

# One in twenty of GSM8K's own solutions is longer than the paper's 256 tokens (counting words,
# digits, and signs, times 1.1), so a healthy run cuts off about as many. Hard problems have long
# solutions: if more samples are cut off, paths are lost on the hard problems.
MOST_CUT_OFF = 0.10
# A model trained on solutions hardly ever ends without an answer (0 to 1.2% in five runs of small
# models).
MOST_UNANSWERED = 0.20
FALSE_ALARMS = 1e-3  # the chance that a healthy run exceeds one of these two limits


@dataclass(slots=True)
class Share:
    """The share of n observations that were found to be of a certain kind."""

    n: int = 0
    n_found: int = 0
    problems: set[ProblemId] = field(default_factory=set)

    def add(self, problem_id: ProblemId, is_found: bool) -> None:
        """Count one more observation."""
        self.n += 1
        self.n_found += is_found
        self.problems.add(problem_id)

    def lower_limit(self) -> float:
        """Return the exact lower confidence limit of the share, treating each problem as one
        observation; 0 if nothing was found."""
        from scipy.special import betaincinv  # slow to import

        if self.n_found == 0:
            return 0.0
        n_problems = len(self.problems)
        n_found = n_problems * self.n_found / self.n
        return float(betaincinv(n_found, n_problems - n_found + 1, FALSE_ALARMS))


@dataclass(slots=True)
class Health:
    """Statistics of a session's samples so far.

    ``expects_variety``: the sampling temperature is at least MIN_TEMPERATURE. ``expects_answers``:
    the model has been trained to end with an answer.
    """

    expects_variety: bool = False
    expects_answers: bool = True
    cut_off: Share = field(default_factory=Share)
    unanswered: Share = field(default_factory=Share)  # among the samples that were not cut off
    identical: Share = field(default_factory=Share)  # among groups of GROUP_SIZE samples
    _open_groups: dict[tuple[ProblemId, int], list[int]] = field(default_factory=dict)

    def add(self, sample: Sample, has_answer: bool) -> None:
        """Count one more sample."""
        is_cut_off = sample.finish_reason == "length"
        self.cut_off.add(sample.problem_id, is_cut_off)
        if not is_cut_off:
            self.unanswered.add(sample.problem_id, not has_answer)
        if self.expects_variety:
            self._add_to_group(sample)

    def _add_to_group(self, sample: Sample) -> None:
        """Compare the texts of a group once it is complete; keep their hashes until then.

        Groups are by sample_id, not by arrival: short completions arrive first and are more alike.
        """
        key = (sample.problem_id, sample.sample_id // GROUP_SIZE)
        hashes = self._open_groups.setdefault(key, [])
        hashes.append(hash(sample.completion))
        if len(hashes) == GROUP_SIZE:
            del self._open_groups[key]
            self.identical.add(sample.problem_id, len(set(hashes)) == 1)


def run_alarms(health: Health) -> dict[str, str]:
    """Return a line for each sign of trouble, keyed by a short name; empty for a healthy run.

    May be called at any time. One or two problems never raise an alarm, since they may be unusual.
    """
    lines = {}
    identical, cut_off, unanswered = health.identical, health.cut_off, health.unanswered
    if len(identical.problems) >= MIN_PROBLEMS and identical.n_found > MOST_IDENTICAL * identical.n:
        lines["repeats"] = (
            f"{identical.n_found} of {identical.n} groups of {GROUP_SIZE} samples "
            f"({len(identical.problems)} problems) hold the same text {GROUP_SIZE} times: either "
            "random seeds are reused, or the model is so sure that more samples add nothing; "
            "check the seeds or raise --temperature"
        )
    if (at_least := cut_off.lower_limit()) > MOST_CUT_OFF:
        lines["cut_off"] = (
            f"{_describe_share(cut_off)} are cut off by --max_new_tokens: {_cut_off_fix(at_least)}"
        )
    if health.expects_answers and unanswered.lower_limit() > MOST_UNANSWERED:
        lines["no_answer"] = (
            f"{_describe_share(unanswered)} end without a readable '#### answer': is this a base "
            "model, or one trained with another prompt? give a fine-tuned model, or --prompt icl "
            "for a base model, and check the prompt with --dry_run"
        )
    return lines


def _describe_share(share: Share) -> str:
    return f"{share.n_found / share.n:.1%} of {share.n} samples ({len(share.problems)} problems)"


def _cut_off_fix(at_least: float) -> str:
    if at_least > 0.5:  # hardly a matter of length
        return (
            "the model does not stop; is it a base model without --prompt icl, was it trained with "
            "another prompt, or is its end-of-sequence token wrong?"
        )
    return "raise --max_new_tokens"
