"""Sample k completions per problem, or one greedy completion, into a sample store.

    python sample.py --model_name_or_path M --data_path data/train_use.jsonl --output_dir SAMPLES \\
        --n_samples 100 --temperature 0.7
    python sample.py --model_name_or_path M --data_path data/test_use.jsonl --output_dir SAMPLES2 \\
        --greedy
    python sample.py --model_name_or_path BASE_MODEL --data_path data/test_use.jsonl \\
        --output_dir SAMPLES3 --greedy --prompt icl

The same command continues an interrupted or killed run where it stopped. With a larger --n_samples,
or with problems appended to the data, it makes only the samples that the store lacks.
"""

from screl.core.config import parse_config, run_main, say, show_config
from screl.core.cost import Stopwatch
from screl.core.io import locked
from screl.core.stopping import stop_signals
from screl.grading.styles import load_judged_problems
from screl.samples.store import finish_store, open_store
from screl.sampling.config import SampleConfig, check_sample_options
from screl.sampling.report import report_session, write_run_json


def main() -> None:
    """Make the samples that the store lacks, then report what the store holds."""
    config = parse_config(SampleConfig, doc=__doc__)
    stopwatch = Stopwatch()
    check_sample_options(config)
    config.prompt_choice.check()
    problems, rules = load_judged_problems(config.data_path, config.keys, config.path_rules(), say)
    # slow imports: after the cheap checks, and not for --help
    from screl.sampling.preview import describe_sampling_plan, remake_sample
    from screl.sampling.run import (
        Prompts,
        choose_engine,
        make_manifest,
        run_sampling,
        with_prompt,
    )  # fmt: skip

    config = with_prompt(config)
    engine = choose_engine(config)
    prompts = Prompts(config, problems)
    if config.dry_run:
        print(show_config(config))
        print(describe_sampling_plan(config, engine, problems, prompts))
        return
    if config.only:
        print(remake_sample(config, engine, problems, prompts))
        return
    with locked(config.output_dir, "another process is sampling into it; wait until it ends"):
        manifest = make_manifest(config, engine, problems, prompts)
        open_store(config.output_dir, manifest, problems)
        with stop_signals():
            session = run_sampling(config, engine, problems, prompts, rules)
        if config.until_correct and not session.unfulfilled and not session.is_interrupted:
            finish_store(config.output_dir)
        if session.n_samples or not (config.output_dir / "run.json").exists():
            write_run_json(config, prompts, session, stopwatch)
        report_session(config, session, len(problems))


if __name__ == "__main__":
    run_main(main)
