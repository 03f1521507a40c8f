"""Pre-train the miniature's base model on generated text: the tokenizer and a small LLaMA.

    python data/mini/pretrain.py --output_dir data/mini/model

The text is bare equations and word problems solved in formats of its own, without ``<<...>>`` and
``####``. So the base model knows numbers and words but not the format that fine-tuning teaches.
No pre-training problem shares its kind and numbers with the train or test set.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # run as a script: make `import data.mini`, `import screl` work

from data.mini.generate import Instance, draw_instances, shipped_sets  # noqa: E402
from screl.prompts import ALPACA_NO_INPUT  # noqa: E402

SEQUENCE_LENGTH = 256
BATCH_SIZE = 16


def terse_problem(instance: Instance, path: int) -> str:
    """A solved problem in the pre-training format: only equations and the result."""
    steps = "; ".join(f"{text}={result}" for _, text, result in instance.steps(path))
    return f"{instance.question} {steps}."


def told_problem(instance: Instance, path: int) -> str:
    """A solved problem in sentences, with bare equations in them."""
    sentences = [
        instance.kind.says[quantity].format(f"{text}={result}", **instance.words)
        for quantity, text, result in instance.steps(path)
    ]
    return " ".join([instance.question, *sentences])


def random_equation(random: Random) -> str:
    """A true equation of the sizes that the problems use."""
    sign = random.choice("++--**/")
    if sign in "+-":
        scale = random.choice((1, 1, 1, 2, 1))  # 2: halves
        a, b = random.randint(2, 999), random.randint(2, random.choice((20, 99, 999)))
        if sign == "+":
            return f"{a / scale:g}+{b / scale:g}={(a + b) / scale:g}"
        return f"{(a + b) / scale:g}-{b / scale:g}={a / scale:g}"
    a, b = random.randint(2, random.choice((12, 99, 199))), random.randint(2, 12)
    if sign == "/":
        return f"{a * b}/{b}={a}"
    if random.random() < 0.3:
        return f"{a / 2:g}*{b}={a * b / 2:g}"
    return f"{a}*{b}={a * b}" if random.random() < 0.5 else f"{b}*{a}={a * b}"


def documents(seed: int) -> Iterator[str]:
    """Endless pre-training text: one part problems to one part equations, eight to a line."""
    shipped = {instance.signature for part in shipped_sets(0).values() for instance in part}
    random = Random(f"pretrain {seed}")
    while True:
        # a fresh set each round: pre-training may repeat itself, but never a shipped problem
        instances = draw_instances(random, set(shipped))
        for _ in range(1000):
            instance = next(instances)
            tell = random.choice((terse_problem, told_problem))
            yield tell(instance, random.randrange(len(instance.kind.paths)))
            yield "; ".join(random_equation(random) for _ in range(6))


def train_tokenizer(seed: int, vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits; each half of the prompt template is one token."""
    tokenizer = Tokenizer(models.BPE())
    split = r"\d| ?(?:####|<<|>>)|\n+| ?[A-Za-z]+| ?[^\sA-Za-z\d]"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    template = [part.strip("\n") for part in ALPACA_NO_INPUT.split("{question}")]
    trainer = BpeTrainer(
        vocab_size=vocab_size - len(template),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_text(seed), trainer)
    tokenizer.add_tokens([AddedToken(part, normalized=False) for part in template])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def tokenizer_text(seed: int) -> Iterator[str]:
    """Problems in both formats, so that the words of the annotated solutions have tokens too."""
    instances = draw_instances(Random(f"tokenizer {seed}"), set())
    for _ in range(4000):
        instance = next(instances)
        for path in range(len(instance.kind.paths)):
            yield terse_problem(instance, path)
            yield instance.solution(path)


def batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[torch.Tensor]:
    """Token ids (BATCH_SIZE, SEQUENCE_LENGTH): documents joined by BOS and EOS, cut evenly."""
    text = documents(seed)
    buffer: list[int] = []
    while True:
        while len(buffer) < BATCH_SIZE * SEQUENCE_LENGTH:
            for ids in tokenizer([next(text) for _ in range(256)]).input_ids:
                buffer += [*ids, tokenizer.eos_token_id]
        rows, buffer = (
            buffer[: BATCH_SIZE * SEQUENCE_LENGTH],
            buffer[BATCH_SIZE * SEQUENCE_LENGTH :],
        )
        yield torch.tensor(rows).view(BATCH_SIZE, SEQUENCE_LENGTH)


def make_model(
    arguments: argparse.Namespace, tokenizer: PreTrainedTokenizerFast
) -> LlamaForCausalLM:
    """A randomly initialised LLaMA in float32."""
    torch.manual_seed(arguments.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=arguments.hidden_size,
        intermediate_size=arguments.hidden_size * 8 // 3 // 32 * 32,
        num_hidden_layers=arguments.num_hidden_layers,
        num_attention_heads=arguments.hidden_size // 32,
        num_key_value_heads=max(1, arguments.hidden_size // 64),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def pretrain(
    model: LlamaForCausalLM, data: Iterator[torch.Tensor], steps: int, peak: float
) -> None:
    """AdamW with warm-up and cosine decay, in place; prints the loss now and then."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    warmup, started = 100, time.time()
    model.train()
    forward = torch.compile(model)  # 1.2 times as fast; needs a C++ compiler
    for step in range(steps):
        progress = max(0.0, (step - warmup) / max(1, steps - warmup))
        rate = peak * min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids = next(data)
        with torch.autocast("cpu", torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            speed = (step + 1) * ids.numel() / (time.time() - started)
            print(
                f"step {step} loss {loss.item():.4f} lr {rate:.2e} {speed:.0f} tokens/s", flush=True
            )


def main() -> None:
    """Train the tokenizer and the model and save both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--steps", type=int, default=5000, help="4,096 tokens each")
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--vocab_size", type=int, default=768)
    parser.add_argument("--hidden_size", type=int, default=128)
    parser.add_argument("--num_hidden_layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = train_tokenizer(arguments.seed, arguments.vocab_size)
    model = make_model(arguments, tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    pretrain(model, batches(tokenizer, arguments.seed), arguments.steps, arguments.learning_rate)
    tokenizer.save_pretrained(arguments.output_dir)
    model.save_pretrained(arguments.output_dir)


if __name__ == "__main__":
    main()
