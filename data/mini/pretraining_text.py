"""Generate the pre-training text of the miniature's base models, and train their tokenizer.

The text is bare equations and word problems solved in two formats without ``<<...>>`` and ``####``.
No problem has the kind and the numbers of a training or test problem.
"""

from collections.abc import Iterator
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from data.mini.generate import Instance, draw_instances, shipped_sets
from screl.core.problems import ALPACA_NO_INPUT


def terse_problem(instance: Instance, path: int) -> str:
    """Return a solved problem with a list of equations as its solution."""
    steps = "; ".join(f"{text}={result}" for _, text, result in instance.steps(path))
    return f"{instance.question} {steps}."


def prose_problem(instance: Instance, path: int) -> str:
    """Return a problem solved in sentences with bare equations."""
    sentences = [
        instance.kind.says[quantity].format(f"{text}={result}", **instance.words)
        for quantity, text, result in instance.steps(path)
    ]
    return " ".join([instance.question, *sentences])


def random_equation(random: Random) -> str:
    """Return a true equation with numbers as large as those of the problems."""
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


def documents(seed: int | str) -> Iterator[str]:
    """Yield pre-training text without end: solved problems and lines of six equations in turn."""
    shipped = {instance.signature for part in shipped_sets(0).values() for instance in part}
    random = Random(f"pretrain {seed}")
    while True:
        # a new set each round: text may repeat itself, but never contain a train or test problem
        instances = draw_instances(random, set(shipped))
        for _ in range(1000):
            instance = next(instances)
            write = random.choice((terse_problem, prose_problem))
            yield write(instance, random.randrange(len(instance.kind.paths)))
            yield "; ".join(random_equation(random) for _ in range(6))


def train_tokenizer(seed: int, vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with single digits and one token for each half of the prompt."""
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
    """Yield problems in both formats, so that the words of annotated solutions get tokens too."""
    instances = draw_instances(Random(f"tokenizer {seed}"), set())
    for _ in range(4000):
        instance = next(instances)
        for path in range(len(instance.kind.paths)):
            yield terse_problem(instance, path)
            yield instance.solution(path)
