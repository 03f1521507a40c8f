"""Try a model's architecture before a run is planned or started, on a small copy without weights.

The copy has random weights and goes through the code of the training; its logits must be those of
plain transformers. So a model that training cannot run, or would run otherwise than it was trained,
is refused within seconds and not after 140 GB were read.
"""

from copy import deepcopy

import numpy as np
import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM

from screl.core.io import UserError
from screl.models.folder import load_explained
from screl.models.loading import Model, ModelConfig, longest_sequence
from screl.models.tokenizer import Example
from screl.training.model import PACKED_ATTENTION, PackedLM, decoder_layers, pack

VOCABULARY = 512  # of the copy
N_SHARED_HEADS = 2  # heads of keys and values in the copy
# The most of the copy, which change no formula.
MOST = {
    "intermediate_size": 256, "moe_intermediate_size": 256, "shared_expert_intermediate_size": 256,
    "num_experts": 8, "num_local_experts": 8,
}  # fmt: skip
SEE_TABLE = "docs/training.md lists the models that were tried"
MOST_WEIGHTS = 300_000_000  # of the copy, twice in float32
TOLERANCE = 1e-3  # of the logits' standard deviation; float32 rounds them by less than 1e-4
LENGTHS = ((24, 9), (15, 4))  # tokens of the two examples, and how many of them are prompt


def refuse_long_rows(name: str, longest: int) -> None:
    """Raise UserError if the model has fewer positions than the ``longest`` row has tokens."""
    positions = longest_sequence(name)
    if longest > positions:
        raise UserError(
            f"{name}: the model has {positions:,} positions, and a row has {longest:,} tokens; "
            f"give --max_length {positions}"
        )


def try_architecture(name: str) -> str:
    """Return one line that says what was tried.

    Raises UserError if training cannot run the model ``name``, or if it would compute other logits
    than transformers.
    """
    config = load_explained(AutoConfig.from_pretrained, name)
    small = small_copy(config)
    try:
        with init_empty_weights():
            empty = AutoModelForCausalLM.from_config(small)
    except Exception as error:  # each architecture has its own rules for its widths
        return f"not tried: no small copy can be made ({_one_line(error)})"
    kind, n_weights = type(empty).__name__, sum(weight.numel() for weight in empty.parameters())
    if not empty._supports_attention_backend:
        raise UserError(
            f"{name}: {kind} computes attention by code of its own, so that examples cannot be "
            f"laid end to end; {SEE_TABLE}"
        )
    if n_weights > MOST_WEIGHTS:
        return f"not tried: the smallest copy of {kind} has {n_weights:,} weights"
    try:
        difference = largest_difference(small)
    except UserError as error:
        raise UserError(f"{name}: {kind}: {error}") from None
    except Exception as error:  # an architecture that cannot be packed fails in its own way
        raise UserError(
            f"{name}: training cannot run {kind} ({_one_line(error)}); {SEE_TABLE}"
        ) from None
    if not difference <= TOLERANCE:
        raise UserError(
            f"{name}: training would compute other logits for {kind} than transformers does (they "
            f"differ by {difference:.0%} of their standard deviation), so it leaves out a part of "
            f"this model; {SEE_TABLE}"
        )
    layers = f"{small.get_text_config().num_hidden_layers} layers"
    return f"{kind}: a copy of {layers} has the logits of transformers (within {difference:.0e})"


def small_copy(config: ModelConfig) -> ModelConfig:
    """Return the config with a layer of each kind, few heads, and a small vocabulary.

    What decides how the model computes stays: width of a head, rotary embedding, scales and caps.
    """
    small = deepcopy(config)
    text = small.get_text_config()
    for part in vars(small).values():  # an image encoder, which text does not run
        if part is not text and hasattr(part, "num_hidden_layers"):
            part.num_hidden_layers = 1
    kept = _kinds_of_layers(text)
    for key, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == text.num_hidden_layers:
            setattr(text, key, [value[i] for i in kept])
    text.num_hidden_layers = len(kept)
    n_heads = text.num_attention_heads
    n_shared = getattr(text, "num_key_value_heads", None) or n_heads
    factor = n_shared // N_SHARED_HEADS
    if factor > 1 and all(n % factor == 0 for n in (n_heads, n_shared, text.hidden_size)):
        text.num_attention_heads = n_heads // factor
        text.hidden_size //= factor
        if getattr(text, "num_key_value_heads", None):
            text.num_key_value_heads = n_shared // factor
    for key, most in MOST.items():
        if getattr(text, key, None):
            setattr(text, key, min(getattr(text, key), most))
    text.vocab_size = VOCABULARY
    text.bos_token_id, text.eos_token_id, text.pad_token_id = 1, 2, 0
    return small


def _kinds_of_layers(config: ModelConfig) -> list[int]:
    """Return the numbers of two layers, and of one of each kind that the config lists."""
    n_layers = config.num_hidden_layers
    lists = [v for v in vars(config).values() if isinstance(v, list) and len(v) == n_layers]
    kinds = [repr([values[i] for values in lists]) for i in range(n_layers)]
    return sorted({kinds.index(kind) for kind in kinds} | set(range(min(2, n_layers))))


def _build(config: ModelConfig, attention: str) -> Model:
    """Return a model with weights that make attention and logits depend on every token."""
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        deepcopy(config), attn_implementation=attention, dtype=torch.float32
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=2 * weight.shape[-1] ** -0.5)
    torch.random.set_rng_state(torch_state)
    return model


def largest_difference(config: ModelConfig) -> float:
    """Return how far training's logits and loss are from those of transformers.

    The unit is the standard deviation of the logits. Training runs two examples in one row,
    transformers each by itself. Raises whatever the architecture raises.
    """
    plain, model = _build(config, "eager"), _build(config, PACKED_ATTENTION)
    decoder_layers(model)
    random = np.random.default_rng(0)
    examples = [
        Example(random.integers(3, VOCABULARY, length).astype(np.int32), n_prompt)
        for length, n_prompt in LENGTHS
    ]
    packed, batch = PackedLM(model), pack(examples)
    with torch.no_grad():
        expected = torch.cat([_plain_logits(plain, example) for example in examples])
        logits = packed(batch, logits=True)
        loss = packed(batch)
    true_loss = torch.nn.functional.cross_entropy(expected, batch.targets, reduction="sum")
    furthest = max((logits - expected).abs().max(), (loss - true_loss).abs() / len(expected))
    return float(furthest / expected.std())


def _plain_logits(model: Model, example: Example) -> torch.Tensor:
    """Return the (targets, vocabulary) logits in front of the targets, by transformers."""
    ids = torch.from_numpy(example.input_ids.astype(np.int64))[None]
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits[0, example.n_prompt - 1 : -1]


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
