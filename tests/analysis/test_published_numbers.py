"""The published numbers: every file as its README says, and the same number wherever it stands."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest

from screl.analysis import published_numbers as paper
from screl.core.io import UserError
from tests.conftest import write_lines

LLAMAS = [
    "LLaMA-7B", "LLaMA2-7B", "LLaMA-13B", "LLaMA2-13B", "LLaMA-33B", "LLaMA-65B", "LLaMA2-70B",
]  # fmt: skip
MODELS = [*LLAMAS, "GPT-3-3B", "GPT-3-6B", "GPT-3-12B", "GPT-3-175B", "GPT-4"]
UP_TO_13B, UP_TO_33B = LLAMAS[:4], LLAMAS[:5]
OTHER_MODELS = {  # Table 3
    "PaLM2", "PaLM-540B", "Chinchilla-70B", "GPT-Neo-2.7B", "GPT-J-6B", "ChatGLM2-6B",
    "ChatGLM2-12B", "InternLM-7B",
}  # fmt: skip
# The columns before value, source and reading, and how many numbers there are.
TABLES = {
    "pretraining_loss": ("model quantity", 12 + 12 + 7),
    "sft_data_amount": ("model fraction epochs", (5 + 5 + 1) * 7),
    "rft_by_k": ("model setting k part rows", 7 + 6 * 4 + 5 + 4 + 5 + 7 + 7),
    "distinct_paths": ("model k", 7 * 5 + 2),
    "correct_paths": ("model k temperature quantity", 5 + 5 + 2),
    "maj_at_100": ("model setting metric", (7 + 7 + 5 + 7 + 7) + (4 + 7 + 4 + 4 + 5)),
    "cost": ("model stage quantity", 7 * 4 * 2),
    "comparison": ("model setting metric k", 19 + 11),
    "exclusive_paths": ("model", 2),
    "mugglemath": ("model setting dataset", 2 + 2 + 6),
}
NAMES = {  # the columns that hold names
    ("pretraining_loss", "quantity"): {"loss", "sft", "icl"},
    ("sft_data_amount", "fraction"): {"1", "1/2", "1/4", "1/8", "1/16", "1/32"},
    ("rft_by_k", "setting"): {
        "sft", "rft", "rft_no_dedup", "rft_no_dedup_part", "rft_u13b", "rft_u33b",
    },
    ("rft_by_k", "part"): {"", "1", "1/2", "1/4", "1/8", "1/16", "1/32"},
    ("correct_paths", "temperature"): {"0.7", "1.0"},
    ("correct_paths", "quantity"): {"correct", "distinct"},
    ("maj_at_100", "setting"): {"icl", "sft", "rft", "rft_u13b", "rft_u33b"},
    ("maj_at_100", "metric"): {"maj1@1", "maj1@100"},
    ("cost", "stage"): {"pretrain", "sft", "rft_inference", "rft_train"},
    ("cost", "quantity"): {"flops", "gpu_hours"},
    ("comparison", "setting"): {
        "sft", "rft_u13b", "4-shot", "5-shot", "8-shot", "aligned", "FCS+PCS", "CoRE",
    },
    ("comparison", "metric"): {"maj1@1", "maj1@K"},
    ("mugglemath", "setting"): {"previous_best", "mugglemath", "released"},
    ("mugglemath", "dataset"): {"gsm8k", "math"},
}  # fmt: skip
COUNTS = {("k", table) for table in ("rft_by_k", "distinct_paths", "correct_paths", "comparison")}
COUNTS |= {("rows", "rft_by_k"), ("epochs", "sft_data_amount")}


def line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Slope, intercept and R2 of ordinary least squares."""
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept), float(np.corrcoef(x, y)[0, 1] ** 2)


def test_every_file_is_listed_here() -> None:
    assert {path.name for path in paper.FOLDER.iterdir()} == {
        "README.md", *(f"{table}.csv" for table in TABLES),
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_every_number_has_its_place_and_reading(table: str) -> None:
    columns, n_numbers = TABLES[table]
    with (paper.FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == [*columns.split(), "value", "source", "reading"]
    assert len(lines) == n_numbers
    rows = paper.rows(table)
    assert all(math.isfinite(row.value) for row in rows)
    for row in rows:
        assert row.of["reading"] in ("printed", "digitised")
        assert re.fullmatch(
            r"Table [1-6]|Figure 2|3\.3|abstract v1|README of gsm8k-ScRel", row.of["source"]
        )
    keys = [tuple(row.of[column] for column in columns.split() if column != "rows") for row in rows]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("table", TABLES)
def test_models_settings_and_counts_have_their_names(table: str) -> None:
    models = {row.of["model"] for row in paper.rows(table)}
    more = {"comparison": OTHER_MODELS, "distinct_paths": {"u13b", "u33b"}}.get(table, set())
    assert models - set(MODELS) == more
    for column in TABLES[table][0].split()[1:]:
        found = {row.of[column] for row in paper.rows(table)}
        if (column, table) in COUNTS:
            assert all(text.isdigit() or (text == "" and table == "rft_by_k") for text in found)
        else:
            assert found == NAMES[table, column]


def test_only_what_was_read_off_figure_2_is_digitised() -> None:
    digitised = {
        (table, row.of["model"], row.of["quantity"])
        for table in TABLES
        for row in paper.rows(table, reading="digitised")
    }
    losses = set(MODELS) - set(UP_TO_33B)
    accuracies = set(MODELS) - set(LLAMAS)
    assert digitised == {("pretraining_loss", model, "loss") for model in losses} | {
        ("pretraining_loss", model, "sft") for model in accuracies
    }
    for row in paper.rows("pretraining_loss"):
        assert (row.of["source"] == "Figure 2") == (row.of["reading"] == "digitised")


def test_cells_of_every_setting() -> None:
    settings = {"sft": 7, "rft_no_dedup": 4, "rft_no_dedup_part": 5, "rft_u13b": 7, "rft_u33b": 7}
    for setting, n in settings.items():
        assert len(paper.values("rft_by_k", setting=setting)) == n
    for k, n in {"1": 4, "3": 4, "6": 4, "12": 4, "25": 4, "50": 4, "100": 5}.items():
        assert len(paper.values("rft_by_k", setting="rft", k=k)) == n
    fractions = ["1/2", "1/4", "1/8", "1/16", "1/32"]
    found = paper.rows("rft_by_k", setting="rft_no_dedup_part")
    assert [row.of["part"] for row in found] == fractions
    assert {row.of["model"] for row in found} == {"LLaMA-7B"}
    for fraction, epochs in zip(fractions, (6, 12, 24, 48, 96), strict=True):
        for setting in ("3", str(epochs)):
            assert len(paper.rows("sft_data_amount", fraction=fraction, epochs=setting)) == 7
    assert len(paper.rows("sft_data_amount", fraction="1", epochs="3")) == 7


def test_tables_5_and_6_and_figure_2_agree() -> None:
    for model in LLAMAS:
        sft = paper.value("rft_by_k", model=model, setting="sft")
        assert sft == paper.value("maj_at_100", model=model, setting="sft", metric="maj1@1")
        assert sft == paper.value("pretraining_loss", model=model, quantity="sft")
        assert sft == paper.value("sft_data_amount", model=model, fraction="1")
        icl = paper.value("pretraining_loss", model=model, quantity="icl")
        assert icl == paper.value("maj_at_100", model=model, setting="icl", metric="maj1@1")
        for union in ("rft_u13b", "rft_u33b"):
            of_union = paper.value("maj_at_100", model=model, setting=union, metric="maj1@1")
            assert paper.value("rft_by_k", model=model, setting=union) == of_union
    for model in UP_TO_33B:
        rft = paper.value("maj_at_100", model=model, setting="rft", metric="maj1@1")
        assert paper.value("rft_by_k", model=model, setting="rft", k="100") == rft


def test_table_3_agrees_with_table_6_and_figure_2() -> None:
    for model, setting in [("LLaMA-7B", "sft"), *((model, "rft_u13b") for model in UP_TO_13B)]:
        for k in ("1", "100"):
            of_table_6 = paper.value("maj_at_100", model=model, setting=setting, metric=f"maj1@{k}")
            assert paper.value("comparison", model=model, setting=setting, k=k) == of_table_6
    for model in ("GPT-3-175B", "GPT-4"):
        of_figure_2 = paper.value("pretraining_loss", model=model, quantity="sft")
        assert paper.value("comparison", model=model) == of_figure_2


def test_both_files_of_paths_agree() -> None:
    for model in UP_TO_33B:
        distinct = paper.value(
            "correct_paths", model=model, quantity="distinct", temperature="0.7", k="100"
        )
        assert distinct == paper.value("distinct_paths", model=model, k="100")
        for k in ("1", "3", "6", "12", "25", "50"):
            assert 1 < paper.value("distinct_paths", model=model, k=k) < distinct
        correct = paper.value("correct_paths", model=model, quantity="correct", temperature="0.7")
        assert distinct < correct < 100


def test_accuracy_falls_with_the_loss_along_the_drawn_lines() -> None:
    found = {}
    for quantity in ("sft", "icl"):
        rows = paper.rows("pretraining_loss", quantity=quantity)
        losses = [
            paper.value("pretraining_loss", quantity="loss", model=row.of["model"]) for row in rows
        ]
        slope, intercept, r2 = line(losses, [row.value for row in rows])
        found[quantity] = len(rows), f"{intercept:.2f} {slope:.2f} {r2:.3f}"
    assert found == {"sft": (12, "196.20 -88.16 0.984"), "icl": (7, "307.67 -166.38 0.977")}


def test_points_per_doubling_of_the_data() -> None:
    """The better of the two epoch settings, over the four largest fractions."""
    fractions = {"1/8": -3, "1/4": -2, "1/2": -1, "1": 0}
    found = []
    for model in LLAMAS:
        best = [
            max(paper.values("sft_data_amount", model=model, fraction=text)) for text in fractions
        ]
        slope, _, r2 = line(list(fractions.values()), best)
        found.append(f"{slope:.2f} {r2:.3f}")
    assert found == [
        "6.22 0.989", "6.59 0.999", "7.92 0.998", "5.76 0.986", "5.21 0.992", "4.51 0.996",
        "1.94 0.900",
    ]  # fmt: skip


def test_points_per_doubling_of_k() -> None:
    found = []
    for model in UP_TO_13B:
        rows = paper.rows("rft_by_k", model=model, setting="rft")
        doublings = [math.log2(int(row.of["k"])) for row in rows]
        found.append(f"{line(doublings, [row.value for row in rows])[0]:.2f}")
    assert found == ["0.58", "0.56", "0.90", "0.44"]


def test_training_sets_are_as_large_as_their_paths_say() -> None:
    def thousands(paths: float) -> str:
        return f"{paths * 7473 / 1000:.1f}"

    found = [
        thousands(1 + paper.value("distinct_paths", model=model, k=k))
        for model, k in (
            ("LLaMA-7B", "100"), ("u13b", "400"), ("u33b", "500"), ("LLaMA-33B", "100"),
        )
    ]  # fmt: skip
    assert found == ["46.7", "103.4", "109.5", "28.2"]
    printed = [  # of 7B at k=100, U13B, U33B
        {row.of["rows"] for row in paper.rows("rft_by_k", setting=setting, k=k)}
        for setting, k in (("rft", "100"), ("rft_u13b", ""), ("rft_u33b", ""))
    ]
    assert printed == [{"47000"}, {"104000"}, {"110000"}]
    new_rows = [
        (int(row.of["rows"]) - 7473) / 7473
        for row in paper.rows("rft_by_k", setting="rft", model="LLaMA-7B")
    ]
    assert [f"{n:.2f}" for n in new_rows] == [
        "0.61", "1.01", "1.41", "1.94", "2.75", "3.68", "5.29",
    ]  # fmt: skip
    correct = paper.values("correct_paths", quantity="correct", temperature="0.7")
    assert [round(n * 7.473) for n in correct[:4]] == [398, 454, 467, 535]
    assert {row.of["rows"] for row in paper.rows("rft_by_k", setting="rft_no_dedup")} == {"400000"}
    union = paper.values("distinct_paths", model="u13b") + paper.values(
        "distinct_paths", model="u33b"
    )
    assert union[1] - union[0] == pytest.approx(0.81)


def test_cost_as_the_text_of_section_4_2_compares_it() -> None:
    """From LLaMA-7B: what the two next models cost more, how much less loss, how many points."""

    def more(table: str, model: str, **where: str) -> float:
        of_7b = paper.value(table, model="LLaMA-7B", **where)
        return paper.value(table, model=model, **where) - of_7b

    found = [
        (
            f"{more('cost', model, stage='pretrain', quantity='flops'):.1e}",
            f"{more('pretraining_loss', model, quantity='loss'):.2f}",
            f"{more('rft_by_k', model, setting='rft_u33b'):.1f}",
        )
        for model in ("LLaMA2-7B", "LLaMA-13B")
    ]
    assert found == [("4.2e+22", "-0.05", "2.1"), ("3.6e+22", "-0.07", "2.3")]


def test_cost_of_a_cell_that_two_models_share_stands_at_both() -> None:
    for stage in ("sft", "rft_inference", "rft_train"):
        for quantity in ("flops", "gpu_hours"):
            cells = paper.values("cost", stage=stage, quantity=quantity)
            assert cells[0] == cells[1] < cells[2] == cells[3] <= cells[4] < cells[5] < cells[6]


def test_rows_keep_their_order_and_the_text_of_their_columns() -> None:
    rows = paper.rows("rft_by_k", model="LLaMA-7B", setting="rft")
    assert [row.of["k"] for row in rows] == ["1", "3", "6", "12", "25", "50", "100"]
    assert rows[0] == (
        37.6,
        {
            "model": "LLaMA-7B", "setting": "rft", "k": "1", "part": "", "rows": "12000",
            "source": "Table 5", "reading": "printed",
        },
    )  # fmt: skip
    assert paper.values("rft_by_k", model="LLaMA-7B", setting="rft") == [
        37.6, 39.0, 39.5, 41.6, 40.9, 40.7, 41.7,
    ]  # fmt: skip
    assert paper.value("exclusive_paths", model="LLaMA-33B") == 6.5
    assert paper.rows("exclusive_paths", model="LLaMA-7B") == []


def test_unknown_tables_columns_and_rows_are_named() -> None:
    with pytest.raises(
        UserError, match=r"paper/costs\.csv: no such table; give one of comparison,"
    ):
        paper.rows("costs")
    message = (
        r"cost\.csv: no column 'k' to choose rows by; it has model, stage, quantity, source, r"
    )
    with pytest.raises(UserError, match=message):
        paper.rows("cost", k="1")
    with pytest.raises(UserError, match="no column 'value' to choose rows by"):
        paper.rows("cost", value="10")
    with pytest.raises(
        UserError, match=r"exclusive_paths\.csv: 0 rows have model 'GPT-4'; ask for"
    ):
        paper.value("exclusive_paths", model="GPT-4")
    with pytest.raises(UserError, match=r"exclusive_paths\.csv: 2 rows have any row; ask for one"):
        paper.value("exclusive_paths")


@pytest.mark.parametrize("bad", ["b,4x", "b,", "b", "b,1,2", ""])
def test_bad_line_is_named(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "FOLDER", tmp_path)
    write_lines(tmp_path / "t.csv", ["model,value", "a,3.5", bad, "c,4"])
    message = r"t\.csv:3: expected model,value with a number as value; mend this line"
    with pytest.raises(UserError, match=message):
        paper.rows("t")
