"""A tiny model of each architecture is planned, trained, saved, read again and sampled from."""

from pathlib import Path

import pytest
import torch

from benchmarks.check_models import KINDS, generate, write_tiny
from screl.core.io import UserError
from screl.core.problems import build_prompt, load_problems
from screl.core.shape import n_weights
from screl.models.loading import load_model, load_shape
from screl.models.tokenizer import load_tokenizer, prompt_ids
from screl.sampling.engine import Request, SamplingParams
from screl.sampling.transformers import HFEngine
from tests.conftest import ROOT, write_lines
from tests.training.conftest import read_log, run_here, train_options

REFUSED = ("StableLM", "Falcon")
QUICK = ("GPT-2", "Gemma 2", "Granite 3", *REFUSED)  # the others only add seconds


def complete(folder: Path, data: Path) -> dict[object, str]:
    """Return greedy completions as sample.py makes them with the transformers engine."""
    model, tokenizer = load_model(str(folder), torch.float32), load_tokenizer(str(folder))
    engine = HFEngine(model, tokenizer, SamplingParams(True, 1.0, 1.0, 0, 32, 0), 3)
    for problem in load_problems(data):
        ids = prompt_ids(tokenizer, build_prompt(problem.question))
        engine.add(Request(problem.problem_id, ids, range(1)))
    samples = []
    while engine.n_unfinished:
        samples += engine.step()
    return {sample.problem_id: sample.completion for sample in samples}


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in KINDS],
)
def test_what_the_dry_run_passes_is_trained_saved_and_sampled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, output = write_tiny(KINDS[name], tmp_path / "base"), tmp_path / "out"
    lines = (ROOT / "data/mini/train.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    data = write_lines(tmp_path / "rows.jsonl", lines)
    argv = train_options(base, data, output, num_train_epochs=4, global_batch_size=5)
    if name in REFUSED:
        refusals = []
        for extra in (["--dry_run"], []):
            with pytest.raises(UserError, match="attention by code of its own") as error:
                run_here(monkeypatch, [*argv, *extra])
            refusals.append(str(error.value))
        assert refusals[0] == refusals[1]
        with pytest.raises(SystemExit, match="1"):
            run_here(monkeypatch, ["--doctor", str(base)])
        assert f"MISMATCH  {refusals[0]}\n" in capsys.readouterr().out
        assert not list(output.glob("*.jsonl"))
        return
    run_here(monkeypatch, ["--doctor", str(base)])
    assert "\nno mismatch\n" in capsys.readouterr().out
    run_here(monkeypatch, [*argv, "--dry_run"])
    printed = capsys.readouterr().out
    assert "has the logits of transformers" in printed
    is_exact = KINDS[name].model_type in ("llama", "mistral", "qwen2")
    assert ("memory and time are approximate" in printed) != is_exact
    size = sum(weight.numel() for weight in load_model(str(base), torch.float32).parameters())
    assert n_weights(load_shape(str(base))) == pytest.approx(size, rel=0 if is_exact else 0.01)
    run_here(monkeypatch, argv)
    losses = read_log(output)
    assert losses[-1] < losses[0]
    said = capsys.readouterr().err
    assert ("dropout is off in training" in said) == (name in ("Phi-3", "GPT-2", "Pythia"))
    assert complete(output, data) == generate(output, load_problems(data))
