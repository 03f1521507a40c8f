"""All that eval.py prints and writes about runs that are scored: text for the terminal, entries of
metrics.json."""

from collections.abc import Iterator, Sequence
from typing import Any

from screl import breakdowns
from screl.comparison import changed_problems, compare_runs, is_comparable
from screl.comparison_tables import (
    difference_table,
    list_changes,
    seed_differences,
    seed_summary,
    seed_table,
)
from screl.files import UserError
from screl.metrics import N_RESAMPLES
from screl.score_tables import breakdown_table, curve_table, score_table
from screl.scoring import RunScore

LEGEND = (
    "percent ± standard error over problems; 95 % intervals: bootstrap over problems, "
    f"{N_RESAMPLES:,} resamples"
)
N_LISTED = 8  # ids of problems that are left out
MAJ = {
    "strict": "maj1@k: the expected vote of k samples drawn from all; at k = 1 both are mean@1",
    "paper": "maj1@k: the vote of the first k samples; at k = 1 both are mean@1, of all samples",
}

MCNEMAR = "gained, lost: problems that score more, less; McNemar's exact test is for scores 0 and 1"

Entries = list[dict[str, Any]]


def score_report(scores: Sequence[RunScore], with_curves: bool = True) -> str:
    """The scores of every run, and the curves of the sampled ones."""
    parts = [score_table(scores)]
    legend = LEGEND
    if with_curves and (curve := curve_table(scores)):
        parts.append(curve)
        legend += f"\n{MAJ[scores[0].rules.fidelity]}"
    return "\n\n".join([*parts, legend])


def partial_warning(score: RunScore) -> str | None:
    """What --allow_partial left out; None if all samples are there."""
    if score.n_completions == score.n_completions_expected:
        return None
    warning = (
        f"warning: {score.run}: scored {score.n_completions} of {score.n_completions_expected} "
        f"samples, {score.n_samples} or more of each problem"
    )
    if not score.left_out:
        return f"{warning}; no problem is left out"
    listed = ", ".join(map(str, score.left_out[:N_LISTED]))
    more = ", ..." if len(score.left_out) > N_LISTED else ""
    return f"{warning}; {len(score.left_out)} problems have none and are left out: {listed}{more}"


def difference_report(scores: Sequence[RunScore], entries: Entries) -> str:
    """Every later run compared with the first, which also goes to its entry."""
    first = scores[0]
    others = [score for score in scores[1:] if is_comparable(first, score)]
    if others:
        text = [difference_table(first, others), MCNEMAR]
        text += [line for score in others if (line := list_changes(first, score))]
    else:
        text = []
    for score, entry in zip(scores[1:], entries[1:], strict=True):
        if is_comparable(first, score):
            entry["difference_to_first"] = {
                name: difference._asdict()
                for name, difference in compare_runs(first, score).items()
            }
        else:
            text.append(f"{score.run} is not compared with {first.run}: other problems")
    return "\n".join(text)


def changes(scores: Sequence[RunScore]) -> Iterator[dict[str, Any]]:
    """A row for every problem whose score changed from the first run to a later one."""
    for score in scores[1:]:
        if is_comparable(scores[0], score):
            yield from changed_problems(scores[0], score)


def seed_report(seeds: Sequence[RunScore], baseline: Sequence[RunScore], entries: Entries) -> str:
    """Mean and spread of the seeds of one recipe, and the difference to another's.

    Also adds an entry, whose ``run`` names no run but all seeds together. Raises UserError unless
    all runs scored the same problems, two or more.
    """
    for score in [*seeds, *baseline]:
        if not is_comparable(seeds[0], score):
            raise UserError(
                f"{score.run}: scored other problems than {seeds[0].run}; seeds of a recipe, and "
                "its baseline, must be sampled for the same ones"
            )
    if len(seeds[0].problems) < 2:
        raise UserError(f"{seeds[0].data_path}: one problem alone has no spread; give two or more")
    entry: dict[str, Any] = {
        "run": f"{len(seeds)} seeds",
        "seeds": [score.run for score in seeds],
        "metrics": {
            name: mean._asdict() | spread._asdict()
            for name, (mean, spread) in seed_summary(seeds).items()
        },
    }
    recipes = {"seeds": seeds}
    if baseline:
        recipes = {"baseline": baseline, **recipes}
        entry["baseline"] = [score.run for score in baseline]
        differences = seed_differences(baseline, seeds)
        entry["difference_to_baseline"] = {n: mean._asdict() for n, mean in differences.items()}
    entries.append(entry)
    return seed_table(recipes) + "\nintervals here: problems and seeds, Student t (screl/seeds.py)"


def breakdown_report(scores: Sequence[RunScore], by: str, entries: Entries) -> str:
    """The groups of every run by ``by``, which also go to its entry."""
    tables = []
    for score, entry in zip(scores, entries, strict=False):
        groups = breakdowns.break_down(score, by)
        entry.setdefault("breakdown", {})[by] = breakdowns.to_json(groups)
        title = f"{score.run}\n" if len(scores) > 1 else ""
        tables.append(title + breakdown_table(by, groups))
    return "\n\n".join(tables)
