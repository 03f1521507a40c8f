"""Fine-tune all weights of a causal LM on {"query", "response"} rows: SFT and RFT.

    python train.py --model_name_or_path M --data_path data/train_use.jsonl --output_dir OUT
    torchrun --nproc_per_node 8 train.py --model_name_or_path M --data_path ... --output_dir OUT
    python train.py ... --dry_run                    # what will it train, how long, does it fit?
    python train.py ... --dry_run --world_size 32    # plan a run on 32 GPUs
    python train.py --doctor M                       # check a model's files and its tokenization

The defaults are the published recipe (arXiv 2308.01825, A.1). The same command resumes a killed run
from its last checkpoint and leaves a finished run alone.
"""

import signal
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace

from screl.core.config import parse_config, run_main
from screl.core.cost import Stopwatch
from screl.core.io import UserError, locked
from screl.core.problems import load_problems
from screl.core.prompt_choice import PromptChoice
from screl.training.checkpoint import begun_prompt, is_finished, run_identity
from screl.training.config import DoctorConfig, TrainConfig, check_train_options
from screl.training.launcher import read_launcher
from screl.training.processes import is_main_process, say

IN_USE = (
    "another train.py is writing there; wait until it ends, or end all its processes (workers can "
    "outlive a torchrun that was killed)"
)


def main() -> None:
    """Parse the command line, then examine the model, plan the run, or train."""
    read_launcher()
    if any(word.split("=")[0] == "--doctor" for word in sys.argv[1:]):
        examine_model(parse_config(DoctorConfig, doc=__doc__))
    else:
        train_or_plan(parse_config(TrainConfig, doc=__doc__, instead=DoctorConfig))


def examine_model(config: DoctorConfig) -> None:
    """Print what the doctor finds; exit with status 1 if files contradict each other.

    The same holds for a model that training would refuse.
    """
    from screl.models.doctor import examine
    from screl.training.trial import try_architecture

    try:
        trial: str | UserError = try_architecture(config.doctor)
    except UserError as error:
        trial = error
    choice = PromptChoice("chat", config.system_prompt, config.chat_template_kwargs)
    report, mismatches = examine(config.doctor, trial, choice)
    print(report)
    if mismatches:
        sys.exit(1)


def train_or_plan(config: TrainConfig) -> None:
    """Train, unless this is a dry run or the run has already finished."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: one line, no silent end
    stopwatch = Stopwatch()
    check_train_options(config)
    problems = load_problems(config.data_path, config.keys, needs_solution=True, say=say)
    config = replace(config, **asdict(_settle_prompt(config)))
    identity = run_identity(config)
    if config.dry_run:
        from screl.training.run import dry_run

        dry_run(config, problems, identity)
    elif not is_finished(config.output_dir, identity):
        with locked(config.output_dir, IN_USE) if is_main_process() else nullcontext():
            from screl.training.run import train

            train(config, problems, identity, stopwatch)
    elif is_main_process():
        print(f"{config.output_dir}: already trained with this config and data")


def _settle_prompt(config: TrainConfig) -> PromptChoice:
    """Return the prompt to train on; say so if the model's own template was chosen."""
    from screl.models.prompts import settle_prompt

    name = config.model_name_or_path
    choice = settle_prompt(config.prompt_choice, name, begun_prompt(config.output_dir))
    if config.prompt == "auto" and choice.prompt == "chat":
        say(f"prompt: the chat template of {name} ({choice})")
    return choice


if __name__ == "__main__":
    run_main(main)
