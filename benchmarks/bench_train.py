"""Compare the speed of ways to train on whole optimizer steps of 128 rows of GSM8K.

    python benchmarks/bench_train.py                                       # SmolLM2-135M on a CPU
    python benchmarks/bench_train.py --random_billions 1.2 --n_rows 1280 --trl_batch_size 8  # GPU
    python benchmarks/bench_train.py --ways ours --micro_batch_tokens 2048 # one way alone

Ways (--ways, default all), with the same rows, weights, AdamW, clipping, and precision:
  ours       what train.py does: packed rows, logits of the response only
  trl        TRL's SFTTrainer with its own packing, --trl_batch_size packs of 512 tokens at a time
  published  transformers as the published code used it: tokenize in the collator, micro-batches of
             4 padded to the longest, all logits; but with SDPA and fused AdamW, which are faster

Padding does not count as tokens. Loading, tokenizing (except in the published way, where it is part
of a step), and a warm-up are not timed. Each measurement runs in its own process. The ways take
turns, since machines are shared; a ratio is the median over the turns.

MFU, model FLOP utilization, is the FLOPs per second that the model needs over the machine's peak:
  FLOPs of a row = 6 (W tokens + hidden vocabulary targets) + 6 layers heads width tokens^2
W counts the weights in the matrices of all layers. The head counts for the targets only (response
and EOS), the embedding not at all, attention for the half that is not masked, and recomputation not
at all; the usual 6 N tokens would be more. The peak is from the data sheet of a known GPU, else of
a matrix product measured at the start.
"""

import argparse
import importlib.util
import json
import logging
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from measure import ROOT

sys.path.insert(0, str(ROOT))

from screl.core.problems import Problem, build_prompt, load_problems
from screl.core.run_info import BF16_TFLOPS, peak_gpu_memory_mib, peak_memory_mib
from screl.core.shape import read_shape
from screl.training.config import TrainConfig

BATCH_SIZE = 128
PUBLISHED_MICRO_BATCH_SIZE = 4
MAX_LENGTH = 512
WARM_UP_ROWS = 8
SHAPES = {  # billions of weights: hidden, intermediate, layers, heads, key-value heads, vocabulary
    1.2: (2048, 8192, 16, 32, 8, 128256),  # LLaMA-3.2-1B
    3.2: (3072, 8192, 28, 24, 8, 128256),  # LLaMA-3.2-3B
    6.7: (4096, 11008, 32, 32, 32, 32000),  # LLaMA-7B
}


@dataclass(frozen=True)
class Job:
    """Input and settings of one measurement."""

    model: str
    problems: Sequence[Problem]
    precision: str
    micro_batch_tokens: int
    trl_batch_size: int

    @property
    def batch_size(self) -> int:
        """Return the number of rows per step."""
        return min(BATCH_SIZE, len(self.problems))


@dataclass(frozen=True)
class Measured:
    """Result of one measurement."""

    n_tokens: int
    seconds: float
    peak_mib: int

    @property
    def rate(self) -> float:
        """Return tokens per second."""
        return self.n_tokens / self.seconds


def main() -> None:
    """Print the input, then each way's speed and the ratios."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model_name_or_path
        if arguments.random_billions:
            model = write_random_model(Path(folder), model, arguments.random_billions)
        every = load_problems(arguments.data_path)
        rows = in_own_process(choose_rows, model, every, arguments.n_rows)
        job = Job(
            model, [every[row] for row, _, _ in rows], arguments.precision or "bf16",
            arguments.micro_batch_tokens, arguments.trl_batch_size,
        )  # fmt: skip
        if not arguments.precision:
            job = faster_precision(job)
        peak = arguments.peak_tflops or in_own_process(peak_tflops, job.precision)
        lengths = [length for _, length, _ in rows]
        print(
            f"{len(rows)} rows, {sum(lengths)} tokens in steps of {job.batch_size}; "
            f"{job.precision}; peak {peak:,.2f} TFLOPS\n"
            f"padding of the published way: {padding_share(lengths):.1%} of its tokens",
            flush=True,
        )
        flops = sum(flops_of(model, length, n_targets) for _, length, n_targets in rows)
        compare(job, chosen_ways(arguments.ways), arguments.turns, flops / (peak * 1e12))


def parse_arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [ROOT / "data/train_use.jsonl", ROOT / "../shared/gsm8k/train.jsonl"]
    data_path = next((path for path in known if path.exists()), known[0])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--data_path", type=Path, default=data_path)
    parser.add_argument("--n_rows", type=int, default=128, help="128 per step")
    parser.add_argument(
        "--model_name_or_path", default=str(ROOT / "models/smollm2-135m"),
        help="with --random_billions, only its tokenizer is used",
    )  # fmt: skip
    parser.add_argument(
        "--random_billions", type=float, choices=SHAPES, help="use random weights of this size"
    )
    parser.add_argument(
        "--precision",
        choices=["bf16", "fp32"],
        help="default: the faster one for the published way",
    )
    parser.add_argument("--micro_batch_tokens", type=int, default=TrainConfig.micro_batch_tokens)
    parser.add_argument(
        "--trl_batch_size", type=int, default=1, help="packs at a time; 1 is TRL's fastest on a CPU"
    )
    parser.add_argument("--peak_tflops", type=float, help="peak of this machine, for the MFU")
    parser.add_argument("--turns", type=int, default=3)
    return parser.parse_args()


def chosen_ways(names: Sequence[str]) -> dict[str, Callable[[Job], Measured]]:
    """Return the ways in ``names`` that can run here."""
    if "trl" in names and not importlib.util.find_spec("trl"):
        print("skipping trl: pip install --no-deps trl==1.16.0", file=sys.stderr)
        names = [name for name in names if name != "trl"]
    return {name: WAYS[name] for name in names}


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` in a new process, so that memory, threads, and devices are freed."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def choose_rows(model: str, problems: list[Problem], n_rows: int) -> list[tuple[int, int, int]]:
    """Return (row, tokens, targets) of ``n_rows`` random rows of at most 512 tokens."""
    from screl.models.tokenizer import load_tokenizer, tokenize_example

    tokenizer, chosen = load_tokenizer(model), []
    for row in Random(0).sample(range(len(problems)), len(problems)):
        example = tokenize_example(tokenizer, problems[row])
        if len(example) <= MAX_LENGTH:
            chosen.append((row, len(example), example.n_targets))
        if len(chosen) == n_rows:
            break
    return chosen[: len(chosen) // BATCH_SIZE * BATCH_SIZE or None]


def faster_precision(job: Job) -> Job:
    """Return the job in the precision in which the published way is faster."""
    trials = [
        Job(job.model, job.problems[:WARM_UP_ROWS], precision, 0, 0)
        for precision in ("bf16", "fp32")
    ]
    best = min(trials, key=lambda trial: in_own_process(train_as_published, trial).seconds)
    return Job(**{**vars(job), "precision": best.precision})


def train_as_train_py(job: Job) -> Measured:
    """Train as train.py does."""
    from screl.models.tokenizer import load_tokenizer, tokenize_example
    from screl.training.data import TrainingData
    from screl.training.engine import make_training_engine
    from screl.training.loop import run_step
    from screl.training.processes import end_processes, start_processes

    config = TrainConfig(
        job.model, Path("unused"), Path("unused"),
        micro_batch_tokens=job.micro_batch_tokens, precision=job.precision,
    )  # fmt: skip
    tokenizer = load_tokenizer(job.model)
    examples = [tokenize_example(tokenizer, problem) for problem in job.problems]
    ids = [problem.problem_id for problem in job.problems]
    steps = [range(WARM_UP_ROWS), *in_groups(range(len(examples)), job.batch_size)]
    data = TrainingData(examples, ids, steps)
    engine = make_training_engine(config, tokenizer, start_processes())
    log: Any = SimpleNamespace(entries=[])
    run_step(config, engine, data, 0, config.learning_rate, log)
    started = now()
    for step in range(1, len(steps)):
        run_step(config, engine, data, step, config.learning_rate, log)
    seconds = now() - started
    end_processes()
    return measured(sum(map(len, examples)), seconds)


def train_as_published(job: Job) -> Measured:
    """Train by gradient accumulation over padded micro-batches, tokenized in each step."""
    import torch
    from torch.nn.utils import clip_grad_norm_

    from screl.models.loading import load_model
    from screl.models.tokenizer import load_tokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = load_tokenizer(job.model)
    model = load_model(job.model, torch.float32, "sdpa").to(device).train()
    optimizer = make_optimizer(model)
    autocast = partial(torch.autocast, device, torch.bfloat16, enabled=job.precision == "bf16")
    n_tokens = 0

    def run_step(problems: Sequence[Problem]) -> None:
        nonlocal n_tokens
        micro_batches = in_groups(problems, PUBLISHED_MICRO_BATCH_SIZE)
        for rows in micro_batches:
            batch = collate(tokenizer, rows)
            n_tokens += int(batch["attention_mask"].sum())
            with autocast():
                loss = model(**{name: value.to(device) for name, value in batch.items()}).loss
            (loss / len(micro_batches)).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    run_step(job.problems[:WARM_UP_ROWS])
    n_tokens, started = 0, now()
    for problems in in_groups(job.problems, job.batch_size):
        run_step(problems)
    return measured(n_tokens, now() - started)


def collate(tokenizer: Any, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return ids, mask, and labels of a micro-batch, (rows, longest), padded on the right."""
    import torch

    from screl.models.tokenizer import pad_id

    rows, labels = [], []
    for problem in problems:
        prompt = build_prompt(problem.question)
        text = prompt + problem.solution + tokenizer.eos_token
        n_prompt = len(tokenizer(prompt, truncation=True, max_length=MAX_LENGTH).input_ids)
        ids = torch.tensor(tokenizer(text, truncation=True, max_length=MAX_LENGTH).input_ids)
        rows.append(ids)
        labels.append(ids.clone())
        labels[-1][:n_prompt] = -100
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    return {
        "input_ids": pad(rows, padding_value=pad_id(tokenizer)),
        "attention_mask": pad([torch.ones_like(row) for row in rows]),
        "labels": pad(labels, padding_value=-100),
    }


def train_with_trl(job: Job) -> Measured:
    """Train with SFTTrainer, timed from the start of its first step to the end of its last."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from transformers.utils import is_flash_attn_2_available
    from trl import SFTTrainer

    from screl.models.loading import load_model
    from screl.models.tokenizer import load_tokenizer, tokenize_example

    logging.disable(
        logging.WARNING
    )  # accelerate loads DeepSpeed, which warns on stdout if there is no GPU

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.started = now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = now()

    tokenizer = load_tokenizer(job.model)
    attention = "flash_attention_2" if is_flash_attn_2_available() else "sdpa"
    model = load_model(job.model, torch.float32, attention)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    examples = [tokenize_example(tokenizer, problem) for problem in job.problems]
    rows = [
        {"input_ids": e.input_ids.tolist(), "completion_mask": [0] * e.n_prompt + [1] * e.n_targets}
        for e in examples
    ]
    optimizer, clock = make_optimizer(model), Clock()
    with tempfile.TemporaryDirectory() as folder:
        for used in (rows[:WARM_UP_ROWS], rows):  # the first is a warm-up
            data = Dataset.from_list(used)
            trainer = SFTTrainer(
                model, trl_settings(job, data, folder), train_dataset=data,
                processing_class=tokenizer, optimizers=(optimizer, None), callbacks=[clock],
            )  # fmt: skip
            trainer.remove_callback(PrinterCallback)
            trainer.train()
    assert sum(map(len, trainer.train_dataset["input_ids"])) == sum(map(len, examples))
    return measured(sum(map(len, examples)), clock.ended - clock.started)


def trl_settings(job: Job, data: Any, folder: str) -> Any:
    """Return an SFTConfig whose steps have about ``job.batch_size`` rows."""
    import torch
    from trl import SFTConfig, pack_dataset

    n_packs = len(pack_dataset(data.select_columns("input_ids"), MAX_LENGTH, "bfd"))
    n_steps = max(1, len(data) // job.batch_size)
    return SFTConfig(
        folder, packing=True, max_length=MAX_LENGTH, completion_only_loss=True,
        per_device_train_batch_size=job.trl_batch_size,
        gradient_accumulation_steps=-(-n_packs // (job.trl_batch_size * n_steps)),
        num_train_epochs=1, lr_scheduler_type="constant", max_grad_norm=1.0,
        bf16=job.precision == "bf16", gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(), logging_strategy="no", save_strategy="no",
        report_to="none", disable_tqdm=True,
    )  # fmt: skip


WAYS: dict[str, Callable[[Job], Measured]] = {
    "ours": train_as_train_py,
    "trl": train_with_trl,
    "published": train_as_published,
}


def in_groups(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Split ``rows`` into groups of ``size``."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def make_optimizer(model: Any) -> Any:
    """Return AdamW as in train.py."""
    import torch

    return torch.optim.AdamW(
        model.parameters(), TrainConfig.learning_rate, weight_decay=0.0, fused=True
    )


def now() -> float:
    """Return the time in seconds after a GPU has finished its work."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measured(n_tokens: int, seconds: float) -> Measured:
    """Return a measurement with the peak memory of this process, on the GPU if there is one."""
    return Measured(n_tokens, seconds, peak_gpu_memory_mib() or peak_memory_mib())


def write_random_model(folder: Path, tokenizer: str, billions: float) -> str:
    """Write a LLaMA with random weights and another model's tokenizer; return its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    for path in Path(tokenizer).glob("*token*"):
        shutil.copy(path, folder)
    hidden, intermediate, layers, heads, key_value_heads, vocabulary = SHAPES[billions]
    config = LlamaConfig(
        vocabulary, hidden, intermediate, layers, heads, key_value_heads,
        tie_word_embeddings=billions < 4, dtype="bfloat16",
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


def flops_of(model: str, length: int, n_targets: int) -> float:
    """Return the FLOPs of a row, forward and backward; see the top of this file."""
    shape = read_shape(json.loads((Path(model) / "config.json").read_text()))
    products = shape.num_hidden_layers * shape.layer_matrices * length + shape.embedding * n_targets
    return 6.0 * (products + shape.num_hidden_layers * shape.query_width * length**2)


def peak_tflops(precision: str) -> float:
    """Return the data sheet's peak, else the best of some square matrix products."""
    import torch

    on_gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if on_gpu else ""
    for part, peak in BF16_TFLOPS.items():
        if part in name and precision == "bf16":
            return peak
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rates = []
    for size in (1024, 2048, 8192 if on_gpu else 3072):
        matrix = torch.randn(size, size, dtype=dtype, device="cuda" if on_gpu else "cpu")
        for _ in range(6):
            started = now()
            matrix @ matrix
            rates.append(2 * size**3 / (now() - started))
    return max(rates) / 1e12


def padding_share(lengths: Sequence[int]) -> float:
    """Return the share of padding in micro-batches of 4 rows, padded to the longest."""
    groups = in_groups(lengths, PUBLISHED_MICRO_BATCH_SIZE)
    return 1 - sum(lengths) / sum(max(group) * len(group) for group in groups)


def compare(
    job: Job, ways: dict[str, Callable[[Job], Measured]], turns: int, utilization: float
) -> None:
    """Print medians over the turns, and the ratio of the first way to each other one.

    ``utilization`` is the MFU of a way that takes one second in all.
    """
    results: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            results[name].append(in_own_process(way, job))
    first, *others = results
    for name, of_turns in results.items():
        rates = [result.rate for result in of_turns]
        seconds = statistics.median(result.seconds for result in of_turns)
        print(
            f"{name}: {show_range(rates, ',.0f')} tokens/s, MFU {utilization / seconds:.1%}, "
            f"peak memory {max(result.peak_mib for result in of_turns):,} MiB"
        )
    for name in others:
        pairs = zip(results[first], results[name], strict=True)
        print(f"{first} / {name}: {show_range([a.rate / b.rate for a, b in pairs], '.2f')}")


def show_range(values: Sequence[float], form: str) -> str:
    """Show median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
