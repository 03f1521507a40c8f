"""What a store's samples have cost, those of earlier sessions too."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from screl.files import UserError, read_json_object
from screl.ledger import count_samples
from screl.modeling import load_shape
from screl.problems import Problem
from screl.run_cost import Cost, DeviceTime, Stopwatch, add_session, read_cost

if TYPE_CHECKING:
    from screl.sampling import Made, Prompts
    from screl.survey import Survey


def sampling_cost(
    config: Any, problems: Sequence[Problem], prompts: "Prompts", made: "Made", found: "Survey",
    stopwatch: Stopwatch,
) -> Cost:  # fmt: skip
    """FLOPs and tokens of all samples that are there, and the time that went into them.

    ``found`` are all samples, ``made`` those of this session, which began with ``stopwatch``.
    """
    n_prompt = [len(prompts.ids[problem.problem_id]) for problem in problems]
    flops, tokens = count_samples(load_shape(config.model_name_or_path), n_prompt, found.lengths)
    time = stopwatch.time_of(made.devices)
    if n_before := found.results["n_samples"] - made.n_samples:
        time = add_session(earlier_time(config.output_dir / "run.json", n_before), time)
    return Cost(flops, tokens, time)


def earlier_time(run_json: Path, n_samples: int) -> DeviceTime | None:
    """Of the sessions that made the first ``n_samples``; None if it is not known: a session that is
    killed writes no run.json."""
    try:
        recorded = read_json_object(run_json)["results"]["n_samples"]
    except (UserError, KeyError, TypeError):
        return None
    cost = read_cost(run_json)
    return cost.time if cost and recorded == n_samples else None
