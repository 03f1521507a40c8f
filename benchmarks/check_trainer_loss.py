"""Compare ten steps of ``train.py --loss_norm paper`` with transformers' Trainer, in float32.

    python benchmarks/check_trainer_loss.py

The Trainer has the published settings (4 examples per process and forward pass, 128 per step, 2e-5,
cosine, 3% warm-up, AdamW) and the loss of its time: the mean over each micro-batch, averaged over
micro-batches and processes. Both train the miniature's model on the same 1,280 rows in the same
order, with one process and with two. Prints the largest differences and exits with status 1 if one
exceeds TOLERANCES.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from screl.core.problems import load_problems
from screl.training.config import TrainConfig
from screl.training.data import training_order

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "data/mini/model"
N_STEPS, STEP, MICRO_BATCH = 10, 128, 4
# Of losses in nats; the others are relative.
TOLERANCES = {"loss": 1e-5, "learning_rate": 1e-6, "grad_norm": 1e-4, "weights": 1e-3}


def main() -> None:
    """Run both with one process and with two, and compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainer", type=Path, help=argparse.SUPPRESS)  # in processes started here
    arguments = parser.parse_args()
    if arguments.trainer:
        run_trainer(arguments.trainer)
        return
    is_same = True
    with tempfile.TemporaryDirectory() as folder:
        data = write_rows(Path(folder) / "rows.jsonl")
        for n_processes in (1, 2):
            ours, theirs = (Path(folder) / f"{name}{n_processes}" for name in ("ours", "trainer"))
            theirs.mkdir()
            (theirs / "data").write_text(str(data))
            launch(n_processes, "benchmarks/check_trainer_loss.py", "--trainer", str(theirs))
            launch(n_processes, "train.py", *our_options(data, ours, n_processes))
            found = differences(ours, theirs)
            processes = "1 process" if n_processes == 1 else f"{n_processes} processes"
            print(f"{processes}, {N_STEPS} steps of {STEP} rows, largest differences:")
            for name, difference in found.items():
                print(f"  {name:14} {difference:.1e}   (tolerated: {TOLERANCES[name]:.0e})")
                is_same &= difference <= TOLERANCES[name]
    sys.exit(0 if is_same else 1)


def write_rows(path: Path) -> Path:
    """Write the first N_STEPS x STEP problems of the miniature."""
    names = ("train", "test")
    text = "".join((ROOT / f"data/mini/{name}.jsonl").read_text() for name in names)
    path.write_text("".join(text.splitlines(keepends=True)[: N_STEPS * STEP]))
    return path


def our_options(data: Path, output: Path, n_processes: int) -> list[str]:
    """Return the options of train.py; all others have the published values by default."""
    sharding = "none" if n_processes == 1 else "ddp"
    options = {
        "model_name_or_path": MODEL, "data_path": data, "output_dir": output,
        "num_train_epochs": 1, "loss_norm": "paper", "loss_group_size": MICRO_BATCH,
        "precision": "fp32", "sharding": sharding, "save_steps": 0,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in options.items()]


def launch(n_processes: int, *command: str) -> None:
    """Run a script with torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n_processes}"]
    run = [sys.executable, *launcher, *command]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")


def run_trainer(folder: Path) -> None:
    """Train with transformers' Trainer and write its log and weights to ``folder``."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
    from transformers.trainer_utils import set_seed

    from screl.models.tokenizer import load_tokenizer, pad_id, tokenize_example

    tokenizer = load_tokenizer(str(MODEL))
    problems = load_problems(Path((folder / "data").read_text()))
    (*steps,) = training_order(len(problems), 1, STEP, TrainConfig.seed)
    rows = [tokenize_example(tokenizer, problems[row]) for step in steps for row in step]

    def collate(batch: list[Any]) -> dict[str, torch.Tensor]:
        """Pad on the right; the loss is of the response only."""
        ids, labels = [], []
        for row in batch:
            tokens = torch.tensor(row.input_ids, dtype=torch.long)
            ids.append(tokens)
            labels.append(tokens.clone())
            labels[-1][: row.n_prompt] = -100
        pad = torch.nn.utils.rnn.pad_sequence
        lengths = torch.tensor(list(map(len, ids)))
        padded = pad(ids, batch_first=True, padding_value=pad_id(tokenizer))
        mask = torch.arange(padded.shape[1]) < lengths[:, None]
        targets = pad(labels, batch_first=True, padding_value=-100)
        return {"input_ids": padded, "attention_mask": mask.long(), "labels": targets}

    class InOrder(Trainer):
        """Takes the rows in order, and keeps the loss of each micro-batch."""

        losses: list[torch.Tensor]

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(rows)

        def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
            loss: torch.Tensor = super().training_step(*given, **named)
            self.losses.append(loss.detach())
            return loss

    set_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    settings = TrainingArguments(
        str(folder), per_device_train_batch_size=MICRO_BATCH, num_train_epochs=1,
        learning_rate=TrainConfig.learning_rate, lr_scheduler_type="cosine", warmup_steps=0.03,
        weight_decay=0.0, max_grad_norm=1.0, logging_steps=1, save_strategy="no", use_cpu=True,
        report_to="none", disable_tqdm=True, average_tokens_across_devices=False,
        remove_unused_columns=False, optim="adamw_torch",
    )  # fmt: skip
    settings.gradient_accumulation_steps = STEP // MICRO_BATCH // settings.world_size
    trainer = InOrder(model, settings, train_dataset=rows, data_collator=collate)
    trainer.losses = []
    # as before transformers 4.46, which divides by the number of tokens in a whole step
    trainer.model_accepts_loss_kwargs = False
    trainer.train()
    losses = torch.stack(trainer.losses).view(N_STEPS, -1).sum(1)  # divided by their number already
    losses = trainer.accelerator.reduce(losses, "mean")
    if trainer.is_world_process_zero():
        log = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
        rows_of_log = [
            {key: entry[key] for key in ("learning_rate", "grad_norm")} | {"loss": float(loss)}
            for entry, loss in zip(log, losses, strict=True)
        ]
        (folder / "train_log.jsonl").write_text("".join(map(as_line, rows_of_log)))
        trainer.model.save_pretrained(folder)


def as_line(entry: dict[str, float]) -> str:
    """Return a line of JSONL."""
    return json.dumps(entry) + "\n"


def differences(ours: Path, theirs: Path) -> dict[str, float]:
    """Return the largest differences between two runs.

    Those of the weights are relative to the largest change of a weight in training.
    """
    from safetensors.numpy import load_file

    logs = [
        [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
        for folder in (ours, theirs)
    ]
    assert [len(log) for log in logs] == [N_STEPS, N_STEPS]
    pairs = list(zip(*logs, strict=True))
    found = {"loss": max(abs(a["loss"] - b["loss"]) for a, b in pairs)}
    for key in ("learning_rate", "grad_norm"):
        found[key] = max(abs(a[key] - b[key]) / max(a[key], 1e-12) for a, b in pairs)
    start, mine, other = (
        load_file(folder / "model.safetensors") for folder in (MODEL, ours, theirs)
    )
    change = max(abs(mine[name] - start[name].astype("float32")).max() for name in mine)
    apart = max(abs(mine[name] - other[name]).max() for name in mine)
    return found | {"weights": float(apart / change)}


if __name__ == "__main__":
    main()
