"""Pre-train the miniature's base model on generated text: the tokenizer and a small LLaMA.

    python data/mini/pretrain.py --output_dir OUT
    python data/mini/pretrain.py --output_dir OUT --hidden_size 96 --steps 1000

The text (pretraining_text.py) has neither ``<<...>>`` nor ``####``, so the base model knows numbers
and words but not the format that fine-tuning teaches. The loss in run.json is in nats per token on
text drawn with another seed. If a run is killed, the same command continues from its last
checkpoint.
"""

import math
import os
import pickle
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for the imports below when this is run as a script

from data.mini.pretraining_text import documents, train_tokenizer  # noqa: E402
from screl.core.config import option, parse_config, plain_config, run_main  # noqa: E402
from screl.core.cost import (  # noqa: E402
    PROCESSORS,
    Cost,
    Devices,
    Stopwatch,
    add_session,
    training_flops,
)
from screl.core.io import UserError, locked, read_json_object  # noqa: E402
from screl.core.run_info import refuse_another_run, write_run_info  # noqa: E402
from screl.core.shape import read_shape  # noqa: E402

SEQUENCE_LENGTH = 256
BATCH_SIZE = 16
WARMUP_STEPS = 100
SAVE_STEPS = 250
N_HELD_OUT = 64  # batches of held-out text, 262,144 tokens


@dataclass(frozen=True)
class PretrainConfig:
    """Options of data/mini/pretrain.py."""

    output_dir: Path = option("folder to write the model, its tokenizer, and run.json to")
    steps: int = option("optimizer steps of 4,096 tokens each", 5000)
    learning_rate: float = option("peak learning rate", 3e-3)
    vocab_size: int = option("tokens in the vocabulary", 768)
    hidden_size: int = option("width, a multiple of 32, which is the width of a head", 128)
    num_hidden_layers: int = option("number of layers", 4)
    seed: int = option("seed of the text, the tokenizer, and the initial weights", 0)


def batches(tokenizer: PreTrainedTokenizerFast, seed: int | str) -> Iterator[torch.Tensor]:
    """Yield token ids (BATCH_SIZE, SEQUENCE_LENGTH) of documents with BOS and EOS, cut evenly."""
    text = documents(seed)
    size = BATCH_SIZE * SEQUENCE_LENGTH
    buffer: list[int] = []
    while True:
        while len(buffer) < size:
            for ids in tokenizer([next(text) for _ in range(256)]).input_ids:
                buffer += [*ids, tokenizer.eos_token_id]
        rows, buffer = buffer[:size], buffer[size:]
        yield torch.tensor(rows).view(BATCH_SIZE, SEQUENCE_LENGTH)


def make_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a randomly initialized LLaMA in float32."""
    torch.manual_seed(config.seed)
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.hidden_size * 8 // 3 // 32 * 32,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.hidden_size // 32,
        num_key_value_heads=max(1, config.hidden_size // 64),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(llama)


def pretrain(
    model: LlamaForCausalLM, data: Iterator[torch.Tensor], config: PretrainConfig, watch: Stopwatch
) -> Cost:
    """Train ``model`` in place (AdamW, warm-up, cosine decay), from the last checkpoint if any.

    Returns the device time of all sessions so far.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    devices = Devices("gpu", 1) if model.device.type == "cuda" else PROCESSORS
    first, before = load_checkpoint(config.output_dir, model, optimizer, devices)
    started, n_tokens = time.time(), 0
    model.train()
    for step, ids in enumerate(islice(data, first, config.steps), first):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * decay(step, config.steps)
        loss = loss_of(model, ids.to(model.device)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        n_tokens += ids.numel()
        if (step + 1) % SAVE_STEPS == 0:
            spent = add_session(before, watch.time_of(devices))
            save_checkpoint(config.output_dir, model, optimizer, step + 1, spent)
            speed = n_tokens / (time.time() - started)
            print(f"step {step + 1} loss {loss.item():.4f} {speed:.0f} tokens/s", flush=True)
    return add_session(before, watch.time_of(devices))


def decay(step: int, steps: int) -> float:
    """Return the learning rate of a step as a fraction of the peak."""
    progress = max(0.0, (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS))
    return min((step + 1) / WARMUP_STEPS, 0.5 * (1 + math.cos(math.pi * progress)))


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of each sequence in nats per token, (BATCH_SIZE,)."""
    with torch.autocast(model.device.type, torch.bfloat16):
        logits = model(input_ids=ids).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return losses.mean(dim=1)


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, data: Iterator[torch.Tensor]) -> tuple[float, float]:
    """Return the mean loss on ``N_HELD_OUT`` batches in nats per token, and its standard error."""
    model.eval()
    losses = torch.cat([loss_of(model, ids.to(model.device)) for ids in islice(data, N_HELD_OUT)])
    return losses.mean().item(), losses.std().item() / math.sqrt(len(losses))


def save_checkpoint(
    folder: Path,
    model: LlamaForCausalLM,
    optimizer: torch.optim.Optimizer,
    step: int,
    spent: Cost,
) -> None:
    """Save all that the rest of the run depends on, except the text, which is drawn again."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state | {"spent": asdict(spent)}, folder / "checkpoint.writing")
    os.replace(folder / "checkpoint.writing", folder / "checkpoint.pt")


def load_checkpoint(
    folder: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, devices: Devices
) -> tuple[int, Cost]:
    """Load the last checkpoint, if any, and return its number of steps and their device time."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, Cost(devices.kind, 0.0)
    try:
        state = torch.load(path, map_location=model.device)
    except (EOFError, OSError, RuntimeError, pickle.UnpicklingError):
        raise UserError(f"{path}: is damaged; delete it and run this again to start over") from None
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), Cost(**state["spent"])


def main() -> None:
    """Train tokenizer and model, measure the held-out loss, and save both."""
    config = parse_config(PretrainConfig, doc=__doc__)
    started, watch = time.time(), Stopwatch()
    with locked(config.output_dir, "another process is pre-training into it; wait until it ends"):
        if is_finished(config):
            print(f"{config.output_dir}: already finished")
            return
        tokenizer = train_tokenizer(config.seed, config.vocab_size)
        model = make_model(config, tokenizer).to("cuda" if torch.cuda.is_available() else "cpu")
        print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
        spent = pretrain(model, batches(tokenizer, config.seed), config, watch)
        loss, error = held_out_loss(model, batches(tokenizer, f"held out {config.seed}"))
        tokenizer.save_pretrained(config.output_dir)
        model.save_pretrained(config.output_dir)
        n_tokens = config.steps * BATCH_SIZE * SEQUENCE_LENGTH
        flops = training_flops(read_shape(model.config), n_tokens)
        results = {
            "n_parameters": model.num_parameters(),
            "loss": {"value": loss, "standard_error": error},
            "cost": replace(spent, flops=flops, tokens=n_tokens),
        }
        write_run_info(config.output_dir / "run.json", config, started, results)
        (config.output_dir / "checkpoint.pt").unlink(missing_ok=True)
    print(f"{config.output_dir}: loss {loss:.4f} ± {error:.4f} nats per token on held-out text")


def is_finished(config: PretrainConfig) -> bool:
    """Return whether this run is finished; raise UserError if the folder holds another run."""
    path = config.output_dir / "run.json"
    if not path.exists():
        return False
    refuse_another_run(config.output_dir, read_json_object(path)["config"], plain_config(config))
    return True


if __name__ == "__main__":
    run_main(main)
