"""A small folder as scripts/miniature leaves it; every number in it was worked out by hand."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import analyze
from screl.analysis.claims import CLAIMS
from screl.analysis.estimates import Estimate, Resampler
from screl.analysis.fits import PATHS_OVER_K, PATHS_OVER_K_LIMITED, fit_study
from screl.analysis.miniature import miniature_study
from screl.analysis.study import Study
from screl.core.io import UserError, file_sha256, write_json
from screl.samples.store import Sample, SampleWriter
from tests.conftest import write_lines

TEST = ["<<1+2=3>>3\n#### 3", "<<2+2=4>>4\n#### 4", "<<2+3=5>>5\n#### 5", "<<3+3=6>>6\n#### 6"]
TRAIN = ["<<1+4=5>>5\n#### 5", "<<4+4=8>>8\n#### 8"]
WRONG = "#### 0"


def write_data(path: Path, solutions: Sequence[str]) -> Path:
    rows = [{"query": f"Which is {s[-1]}?", "response": s} for s in solutions]
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_lines(path, [json.dumps(row) for row in rows])


def write_store(folder: Path, data: Path, texts: Sequence[Sequence[str]], greedy: bool) -> None:
    """Write a finished store, replacing any; ``texts[i][j]`` is sample j of problem i."""
    shutil.rmtree(folder, ignore_errors=True)
    manifest = {
        "data_path": str(data),
        "data_sha256": file_sha256(data),
        "n_problems": len(texts),
        "n_samples": len(texts[0]),
        "greedy": greedy,
    }
    write_json(folder / "manifest.json", manifest)
    with SampleWriter(folder) as writer:
        for i, of_problem in enumerate(texts):
            writer.write(Sample(i, j, text, 5, "stop") for j, text in enumerate(of_problem))
    write_json(folder / "run.json", {"results": {}})


class Tree:
    """The folder RUNS of scripts/miniature/common.sh."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.test = write_data(runs / "data/test_4.jsonl", TEST)
        self.vote = write_data(runs / "data/vote_2.jsonl", TEST[:2])
        self.train = write_data(runs / "data/train_2.jsonl", TRAIN)

    def base(self, model: str, loss: float) -> None:
        results = {"loss": {"value": loss, "standard_error": 0.01}}
        write_json(self.runs / model / "base/run.json", {"results": results})

    def greedy(self, place: str, correct: str) -> None:
        """Score BASE/SETTING/seedN (``place``); ``correct`` is like "1100", per test problem."""
        texts = [[s if r == "1" else WRONG] for s, r in zip(TEST, correct, strict=True)]
        if "/icl/" not in place:
            write_json(self.runs / place / "run.json", {"results": {"n_rows": 2}})
        write_store(self.runs / place / "greedy", self.test, texts, greedy=True)

    def votes(self, place: str, texts: Sequence[Sequence[str]]) -> None:
        write_store(self.runs / place / "votes", self.vote, texts, greedy=False)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Two base models with SFT (the strong one with two seeds); ICL and RFT of the strong one."""
    tree = Tree(tmp_path / "runs")
    tree.base("weak", 1.75)
    tree.base("strong", 1.25)
    tree.greedy("weak/sft/seed0", "1000")
    tree.greedy("strong/sft/seed0", "1100")
    tree.greedy("strong/sft/seed1", "0111")
    tree.greedy("strong/icl/seed0", "0001")
    tree.greedy("strong/k3/seed0", "1111")
    other, third, wrong = "<<2+1=3>>3\n#### 3", "<<1+1=2>><<2+1=3>>3\n#### 3", "<<1+1=3>>3\n#### 3"
    tree.votes("strong/sft/seed0", [[other, other, WRONG], [WRONG, WRONG, TEST[1]]])
    tree.votes("strong/k3/seed0", [[other, third, TEST[0]], [TEST[1], wrong, TEST[1]]])
    own, new, newer = TRAIN[0], "<<4+1=5>>5\n#### 5", "<<2+3=5>>5\n#### 5"
    samples = [[own, new, WRONG, "<<2+2=5>>5\n#### 5", newer, "no idea"], [WRONG] * 6]
    write_store(tree.runs / "strong/samples", tree.train, samples, greedy=False)
    funnels = [
        {"name": n, "funnel": {"n_sampled": of}} for n, of in [("a", 12), ("b", 8), ("all", 20)]
    ]
    union = {"runs": funnels, "n_problems": 2, "n_rows": 9}
    write_json(tree.runs / "unions/u_small.run.json", {"results": union})
    return tree


def values(estimates: dict[object, Estimate]) -> dict[object, float]:
    return {key: estimate.value for key, estimate in estimates.items()}


def test_scores_are_means_over_seeds(tree: Tree) -> None:
    study = miniature_study(tree.runs)
    assert (study.name, study.n_problems, study.n_rows) == ("miniature", 4, 2)
    assert study.losses == {"strong": 1.25, "weak": 1.75}
    assert study.models("sft") == ["weak", "strong"]
    assert values(study.accuracy) == {
        ("weak", "sft"): 25,
        ("strong", "sft"): 62.5,  # of 2 and 3
        ("strong", "icl"): 25,
        ("strong", "k3"): 100,
    }
    assert study.n_seeds == {key: 1 for key in study.accuracy} | {("strong", "sft"): 2}


def test_all_settings_share_the_drawn_problems(tree: Tree) -> None:
    tree.greedy("strong/u_all/seed0", "1000")
    tree.greedy("strong/sft/seed1", "1100")  # as the other seed: no noise of seeds
    study = miniature_study(tree.runs)
    difference = study.accuracy["strong", "u_all"] - study.accuracy["weak", "sft"]
    assert (difference.draws == 0).all()
    gain = study.accuracy["strong", "sft"] - study.accuracy["weak", "sft"]
    assert (gain.draws >= 0).all()  # right wherever the weak one is
    assert gain.draws.std() > 10


def test_paths_of_the_first_k_samples_and_the_solution(tree: Tree) -> None:
    paths = miniature_study(tree.runs).paths
    # 1, 2, and 3 paths of the first problem; only the solution's of the second
    assert values(paths["strong"]) == {1: 1, 3: 1.5, 6: 2}
    assert miniature_study(tree.runs).percent_correct == {"strong": pytest.approx(100 * 4 / 12)}
    assert (paths["strong"][1].draws == 1).all()
    assert paths["strong"][6].draws.max() == 3  # if only the first problem is resampled
    assert paths.keys() == {"strong", "u_small"}


def test_paths_of_a_union_by_its_number_of_samples(tree: Tree) -> None:
    (found,) = miniature_study(tree.runs).paths["u_small"].items()
    assert (found[0], found[1].value) == (10, 4.5)  # 20 samples and 9 rows of 2 problems
    assert (found[1].draws == 4.5).all()


def test_votes_and_greedy_answers_to_the_same_problems(tree: Tree) -> None:
    study = miniature_study(tree.runs)
    found = {key: (single.value, voted.value) for key, (single, voted) in study.votes.items()}
    assert found == {("strong", "sft"): (100, 50), ("strong", "k3"): (100, 100)}
    assert study.n_vote_problems == 2
    assert study.paths_on_test["strong", "sft"].tolist() == [1, 1]
    assert study.paths_on_test["strong", "k3"].tolist() == [3, 1]  # wrong equations are no path


def test_votes_have_the_noise_of_one_seed(tree: Tree) -> None:
    tree.greedy("strong/sft/seed0", "1011")
    tree.greedy("strong/sft/seed1", "0000")
    texts = [[TEST[0]] * 3, [WRONG] * 3]
    for place in ("strong/sft/seed0", "weak/sft/seed0"):
        tree.votes(place, texts)
    study = miniature_study(tree.runs)
    # seeds' means 3/4 and 0: squares 9/32, p = 3/8; residuals are ±1/8 six times and ±3/8 twice
    noise = (9 / 32 - (6 / 64 + 18 / 64) / (4 * 3)) / (15 / 64)
    resampler = Resampler(2, [], seed_noise=noise)
    draws = []
    for (model, setting), both in study.votes.items():
        for metric, estimate in zip(("maj1@1", "maj1@3"), both, strict=True):
            if setting == "sft":
                half = resampler.accuracy(np.array([[1.0, 0.0]]), f"{model} sft {metric}")
                assert (estimate.value, half.value) == (50, 50)
                assert estimate.draws == pytest.approx(half.draws)
                draws.append(estimate.draws)
    together = np.corrcoef(draws) - np.eye(4)
    assert np.abs(together).max() < 0.6  # from the two shared problems, not from noise


@pytest.mark.parametrize("content", ["{}", '{"results": 1}', '{"results": {"n_problems": 0}}'])
@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("weak/base/run.json", "pre-training loss"),
        ("unions/u_small.run.json", "number of samples"),
        ("strong/sft/seed0/run.json", "number of rows"),
    ],
)
def test_a_run_json_without_its_numbers_is_named(
    tree: Tree, place: str, what: str, content: str
) -> None:
    (tree.runs / place).write_text(content)
    with pytest.raises(UserError, match=rf"{place}: has no {what}; delete it"):
        miniature_study(tree.runs)


@pytest.mark.parametrize(
    "missing",
    ["strong/samples/run.json", "unions", "strong/sft/seed0/votes", "strong/icl", "strong/k3"],
)
def test_missing_runs_are_left_out(tree: Tree, missing: str) -> None:
    whole = miniature_study(tree.runs)
    path = tree.runs / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    part = miniature_study(tree.runs)

    def keys(study: Study) -> set[object]:
        every = {"accuracy": study.accuracy, "votes": study.votes, "paths": study.paths}
        return {(name, key) for name, of in every.items() for key in of}

    assert (
        keys(whole) - keys(part)
        == {
            "strong/samples/run.json": {("paths", "strong")},
            "unions": {("paths", "u_small")},
            "strong/sft/seed0/votes": {("votes", ("strong", "sft"))},
            "strong/icl": {("accuracy", ("strong", "icl"))},
            "strong/k3": {("accuracy", ("strong", "k3")), ("votes", ("strong", "k3"))},
        }[missing]
    )
    assert keys(part) <= keys(whole)


def test_unfinished_seeds_and_scores_are_left_out(tree: Tree) -> None:
    (tree.runs / "strong/sft/seed1/greedy/run.json").unlink()
    (tree.runs / "strong/k3/seed0/greedy/run.json").unlink()  # its votes are there
    study = miniature_study(tree.runs)
    assert study.n_seeds["strong", "sft"] == 1
    assert study.accuracy["strong", "sft"].value == 50
    assert ("strong", "k3") not in study.accuracy
    assert study.votes.keys() == {("strong", "sft")}


@pytest.mark.parametrize("there", ["", "base", "base sft", "base icl", "greedy"])
def test_a_folder_without_fine_tuned_models(tmp_path: Path, there: str) -> None:
    tree = Tree(tmp_path)
    if "base" in there:
        tree.base("weak", 2.0)
    if "sft" in there:  # not scored yet
        write_json(tmp_path / "weak/sft/seed0/run.json", {"results": {"n_rows": 2}})
    if "icl" in there:
        tree.greedy("weak/icl/seed0", "1000")
    if "greedy" in there:  # its base model has gone
        tree.greedy("weak/sft/seed0", "1000")
    with pytest.raises(UserError) as error:
        miniature_study(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: no fine-tuned models; run scripts/miniature/run.sh first"
    )


@pytest.mark.parametrize("name", ["greedy", "votes"])
def test_scores_on_other_problems_are_refused(tree: Tree, name: str) -> None:
    n = 4 if name == "greedy" else 2
    store = tree.runs / f"strong/sft/seed0/{name}"
    others = write_data(tree.runs / "data/others.jsonl", TEST[-n:][::-1])
    write_store(store, others, [[WRONG]] * n if n == 4 else [[WRONG] * 3] * n, greedy=n == 4)
    with pytest.raises(UserError, match=f"{store}: has other test problems"):
        miniature_study(tree.runs)


def test_few_runs_are_enough_for_claims_and_fits(tree: Tree) -> None:
    study = miniature_study(tree.runs)
    assert {fitted.relation for fitted in fit_study(study)} == {PATHS_OVER_K, PATHS_OVER_K_LIMITED}
    decided = [claim.text for claim in CLAIMS if claim.judge(study).estimate is not None]
    assert decided == ["a vote over 100 samples beats greedy decoding"]


def test_the_script_reads_runs_miniature_by_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^runs/miniature: no fine-tuned models"):
        analyze.miniature([])
