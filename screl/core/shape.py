"""Compute the size of a model from its config.json alone."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The entries of a LLaMA-like model's config.json that determine its size."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    approximate: bool = False  # another architecture, described as a LLaMA with as many weights

    @property
    def query_width(self) -> int:
        """The number of values in one token's queries."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_width(self) -> int:
        """The number of values in one token's keys, which is also that of its values."""
        return self.num_key_value_heads * self.head_dim

    @property
    def embedding(self) -> int:
        """The number of weights in the embedding; the head has as many."""
        return self.vocab_size * self.hidden_size

    @property
    def layer(self) -> int:
        """The number of weights in one layer."""
        biases = (
            self.qkv_bias * (self.query_width + 2 * self.key_width)
            + self.output_bias * self.hidden_size
            + self.mlp_bias * (2 * self.intermediate_size + self.hidden_size)
        )
        return self.layer_matrices + 2 * self.hidden_size + biases

    @property
    def layer_matrices(self) -> int:
        """The number of weights in one layer's matrices, each of which multiplies a token once."""
        width = 2 * self.query_width + 2 * self.key_width + 3 * self.intermediate_size
        return self.hidden_size * width

    @property
    def root(self) -> int:
        """The number of weights outside the layers: embedding, last norm and an untied head."""
        return self.embedding * (1 if self.tie_word_embeddings else 2) + self.hidden_size


def read_shape(config: object) -> Shape:
    """Return the shape in ``config``: a transformers config, or the dict in config.json."""

    def get(key: str, default: Any) -> Any:
        return (
            config.get(key, default) if isinstance(config, dict) else getattr(config, key, default)
        )

    hidden_size, n_heads = get("hidden_size", 0), get("num_attention_heads", 1)
    bias = bool(get("attention_bias", False))
    return Shape(
        hidden_size=hidden_size,
        intermediate_size=get("intermediate_size", 0),
        num_hidden_layers=get("num_hidden_layers", 0),
        num_attention_heads=n_heads,
        num_key_value_heads=get("num_key_value_heads", None) or n_heads,
        head_dim=get("head_dim", None) or hidden_size // n_heads,
        vocab_size=get("vocab_size", 0),
        tie_word_embeddings=bool(get("tie_word_embeddings", False)),
        qkv_bias=bias or get("model_type", "") == "qwen2",  # whose config does not say so
        output_bias=bias,
        mlp_bias=bool(get("mlp_bias", False)),
    )


def n_weights(shape: Shape) -> int:
    """Return the number of weights in the whole model; exact for LLaMA, Mistral and Qwen2."""
    return shape.num_hidden_layers * shape.layer + shape.root


def with_weights(shape: Shape, n: int) -> Shape:
    """Return ``shape``, as approximate, with MLPs so wide that the model has ``n`` weights."""
    others = n_weights(replace(shape, intermediate_size=0, mlp_bias=False))
    of_width = 3 * shape.hidden_size * shape.num_hidden_layers
    width = max(0, round((n - others) / of_width))
    return replace(shape, intermediate_size=width, mlp_bias=False, approximate=True)
