"""A model's size by its config equals the size of the model that transformers makes of it."""

import pytest
import torch
import transformers

from screl.core.shape import n_weights, read_shape, with_weights


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 2}),
        ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 24}),
        ("Qwen2", {"num_key_value_heads": 2}),
        ("Mistral", {"head_dim": 8}),
    ],
)
def test_weights_equal_those_that_transformers_makes(
    kind: str, settings: dict[str, object]
) -> None:
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        vocab_size=100, **settings,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    for read in (config, config.to_dict()):
        assert n_weights(read_shape(read)) == sum(weight.numel() for weight in model.parameters())


def test_another_architecture_is_a_llama_with_as_many_weights() -> None:
    shape = read_shape({"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 100})
    for n in (10, 500_000):
        fitted = with_weights(shape, n)
        assert fitted.approximate
        assert n_weights(fitted) == pytest.approx(max(n, n_weights(shape)), abs=3 * 64 * 3 / 2)
