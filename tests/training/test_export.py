"""Test that the final checkpoint is what was trained, or is not put in place."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from screl.core.io import UserError
from screl.core.problems import build_prompt
from screl.models.loading import load_model
from screl.models.prompts import templated_ids
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.training import export
from screl.training.export import greedy_tokens, save_and_verify
from screl.training.model import PACKED_ATTENTION, PackedLM


class Engine:
    """The part of an engine that save_and_verify uses; its model is not divided."""

    def __init__(self, folder: Path) -> None:
        self.packed = PackedLM(load_model(str(folder), torch.float32, PACKED_ATTENTION))
        self.device = torch.device("cpu")

    def weights(self):
        return ((name, weight.detach()) for name, weight in self.packed.model.named_parameters())


@pytest.fixture
def engine(tiny_model: Path) -> Engine:
    return Engine(tiny_model)


@pytest.fixture
def tokenizer(tiny_model: Path):
    return load_tokenizer(str(tiny_model))


def test_a_good_checkpoint_is_put_in_place(engine: Engine, tokenizer, tmp_path: Path) -> None:
    save_and_verify(engine, tokenizer, tmp_path, "fp32", "fp32")
    assert not (tmp_path / "saving").exists()
    assert load_model(str(tmp_path), "auto").dtype == torch.float32
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1  # all equally readable
    saved = load_tokenizer(str(tmp_path))
    assert templated_ids(saved, "2 + 2?") == prompt_ids(saved, build_prompt("2 + 2?"))


def test_large_weights_go_to_several_files_one_at_a_time(
    engine: Engine, tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They load as one model, and transformers' own names are used."""
    monkeypatch.setattr(export, "FILE_BYTES", 100_000)
    held = []
    real = export.save_file
    monkeypatch.setattr(
        export, "save_file", lambda weights, *rest, **more: (
            held.append(sum(one.numel() * 4 for one in weights.values())),
            real(weights, *rest, **more),
        ),
    )  # fmt: skip
    save_and_verify(engine, tokenizer, tmp_path, "fp32", "fp32")
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(names) == len(held) > 2
    assert names[0] == f"model-00001-of-{len(names):05}.safetensors"
    largest = max(one.numel() * 4 for _, one in engine.weights())
    assert max(held) <= max(100_000, largest)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(held)
    saved = dict(load_model(str(tmp_path), "auto").named_parameters())
    assert all(torch.equal(saved[name], weight) for name, weight in engine.weights())


def spoil(monkeypatch: pytest.MonkeyPatch, change) -> None:
    """Apply ``change(folder)`` to the saved files before they are read again."""
    real = export.verify_checkpoint

    def verify(folder: Path, *others) -> None:
        change(folder)
        real(folder, *others)

    monkeypatch.setattr(export, "verify_checkpoint", verify)


def change_weights(change):
    def in_file(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return in_file


def empty_all(weights: dict[str, torch.Tensor]) -> None:
    """As bad ZeRO-3 saves: every name with an empty tensor."""
    for name in weights:
        weights[name] = torch.zeros(0)


def lose_one(weights: dict[str, torch.Tensor]) -> None:
    del weights["model.layers.1.mlp.up_proj.weight"]


def zero_one(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.1.mlp.up_proj.weight"].zero_()


def change_precision(weights: dict[str, torch.Tensor]) -> None:
    for name, weight in weights.items():
        weights[name] = weight.bfloat16()


def negate_one(weights: dict[str, torch.Tensor]) -> None:
    """Norms do not change; the completion does."""
    weights["lm_head.weight"] *= -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (empty_all, r"cannot be loaded"),
        (lose_one, r"1 weight is missing"),
        (zero_one, r"up_proj\.weight has norm 0\.0, trained"),
        (change_precision, r"is torch\.(bfloat16|float32)"),
        (negate_one, r"its greedy completion"),
    ],
)
def test_a_bad_checkpoint_is_caught_and_not_put_in_place(
    engine: Engine, tokenizer, tmp_path: Path, change, message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if change is change_precision:
        settings = {"dtype": "bfloat16"}
        real = type(engine.packed.model.config).save_pretrained

        def as_bf16(config, folder, **kwargs):
            real(config, folder, **kwargs)
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | settings))

        monkeypatch.setattr(type(engine.packed.model.config), "save_pretrained", as_bf16)
    spoil(monkeypatch, change_weights(change))
    with pytest.raises(UserError, match=message):
        save_and_verify(engine, tokenizer, tmp_path, "fp32", "fp32")
    assert not (tmp_path / "config.json").exists()


def test_a_tie_may_be_rounded_differently(
    engine: Engine, tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another device may choose the other of two about equally probable tokens."""
    real = export.greedy_tokens

    def choose_second(packed: PackedLM, prompt: list[int], device: torch.device) -> list[int]:
        first = real(packed, prompt, device)
        with torch.no_grad():
            head = packed.model.get_output_embeddings().weight
            second = (first[0] + 1) % len(head)
            head[second] = head[first[0]] * (1 - share)
        return [second]

    monkeypatch.setattr(export, "greedy_tokens", choose_second)
    share = 1 / 300
    save_and_verify(engine, tokenizer, tmp_path, "fp32", "fp32")
    share = 1 / 200
    with pytest.raises(UserError, match="greedy completion"):
        save_and_verify(engine, tokenizer, tmp_path, "fp32", "fp32")


def test_special_tokens_that_disagree_are_caught(
    engine: Engine, tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(folder: Path) -> None:
        path = folder / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": 77}))

    spoil(monkeypatch, change)
    with pytest.raises(UserError, match="pad_token_id is 77 in GenerationConfig"):
        save_and_verify(engine, tokenizer, tmp_path, "fp32", "fp32")


def test_a_tokenizer_that_splits_differently_after_saving_is_caught(
    engine: Engine, tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(tokenizer).save_pretrained

    def without_bos(self, folder, **settings):
        real(self, folder, **settings)
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))

    monkeypatch.setattr(type(tokenizer), "save_pretrained", without_bos)
    with pytest.raises(UserError, match="its tokenizer splits a prompt into other tokens"):
        save_and_verify(engine, tokenizer, tmp_path, "fp32", "fp32")


def test_the_greedy_completion_equals_that_of_transformers(engine: Engine, tokenizer) -> None:
    prompt = prompt_ids(tokenizer, build_prompt("How many?"))
    ours = greedy_tokens(engine.packed, prompt, engine.device)
    model = load_model(tokenizer.name_or_path, torch.float32)
    theirs = model.generate(
        torch.tensor([prompt]), max_new_tokens=16, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    assert ours == theirs[0, len(prompt) :].tolist()
