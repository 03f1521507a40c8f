"""The published numbers: files as their README says, and tables that agree with each other."""

import csv
import math
import re
from pathlib import Path

import pytest

from screl.analysis import published_numbers as module
from screl.analysis.published_numbers import published_numbers
from screl.core.io import UserError
from tests.conftest import write_lines

LLAMAS = [
    "LLaMA-7B", "LLaMA2-7B", "LLaMA-13B", "LLaMA2-13B", "LLaMA-33B", "LLaMA-65B", "LLaMA2-70B",
]  # fmt: skip
MODELS = [*LLAMAS, "GPT-3-3B", "GPT-3-6B", "GPT-3-12B", "GPT-3-175B", "GPT-4"]
UP_TO_13B, UP_TO_33B = LLAMAS[:4], LLAMAS[:5]
# The columns before value, source, and reading; the number of rows.
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


def values(table: str, **where: str) -> list[float]:
    return [row.value for row in published_numbers(table, **where)]


def value(table: str, **where: str) -> float:
    (found,) = values(table, **where)
    return found


def test_every_file_is_listed_here() -> None:
    assert {path.name for path in module.FOLDER.iterdir()} == {
        "README.md", *(f"{table}.csv" for table in TABLES),
    }  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_every_number_has_source_and_reading(table: str) -> None:
    columns, n_numbers = TABLES[table]
    with (module.FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == [*columns.split(), "value", "source", "reading"]
    assert len(lines) == n_numbers
    rows = published_numbers(table)
    assert all(math.isfinite(row.value) for row in rows)
    for row in rows:
        assert row.columns["reading"] in ("printed", "digitised")
        assert re.fullmatch(
            r"Table [1-6]|Figure 2|3\.3|abstract v1|README of gsm8k-ScRel", row.columns["source"]
        )
    by = [column for column in columns.split() if column != "rows"]
    keys = [tuple(row.columns[column] for column in by) for row in rows]
    assert len(set(keys)) == len(keys)


def test_only_figure_2_was_digitised() -> None:
    digitised = {
        (table, row.columns["model"], row.columns["quantity"])
        for table in TABLES
        for row in published_numbers(table, reading="digitised")
    }
    losses = set(MODELS) - set(UP_TO_33B)
    accuracies = set(MODELS) - set(LLAMAS)
    assert digitised == {("pretraining_loss", model, "loss") for model in losses} | {
        ("pretraining_loss", model, "sft") for model in accuracies
    }
    for row in published_numbers("pretraining_loss"):
        assert (row.columns["source"] == "Figure 2") == (row.columns["reading"] == "digitised")


def test_tables_5_and_6_and_figure_2_agree() -> None:
    for model in LLAMAS:
        sft = value("rft_by_k", model=model, setting="sft")
        assert sft == value("maj_at_100", model=model, setting="sft", metric="maj1@1")
        assert sft == value("pretraining_loss", model=model, quantity="sft")
        assert sft == value("sft_data_amount", model=model, fraction="1")
        icl = value("pretraining_loss", model=model, quantity="icl")
        assert icl == value("maj_at_100", model=model, setting="icl", metric="maj1@1")
        for union in ("rft_u13b", "rft_u33b"):
            of_union = value("maj_at_100", model=model, setting=union, metric="maj1@1")
            assert value("rft_by_k", model=model, setting=union) == of_union
    for model in UP_TO_33B:
        rft = value("maj_at_100", model=model, setting="rft", metric="maj1@1")
        assert value("rft_by_k", model=model, setting="rft", k="100") == rft


def test_table_3_agrees_with_table_6_and_figure_2() -> None:
    for model, setting in [("LLaMA-7B", "sft"), *((model, "rft_u13b") for model in UP_TO_13B)]:
        for k in ("1", "100"):
            of_table_6 = value("maj_at_100", model=model, setting=setting, metric=f"maj1@{k}")
            assert value("comparison", model=model, setting=setting, k=k) == of_table_6
    for model in ("GPT-3-175B", "GPT-4"):
        of_figure_2 = value("pretraining_loss", model=model, quantity="sft")
        assert value("comparison", model=model) == of_figure_2


def test_both_files_with_paths_agree() -> None:
    for model in UP_TO_33B:
        distinct = value(
            "correct_paths", model=model, quantity="distinct", temperature="0.7", k="100"
        )
        assert distinct == value("distinct_paths", model=model, k="100")
        for k in ("1", "3", "6", "12", "25", "50"):
            assert 1 < value("distinct_paths", model=model, k=k) < distinct
        correct = value("correct_paths", model=model, quantity="correct", temperature="0.7")
        assert distinct < correct < 100


def test_cost_as_the_text_of_section_4_2_compares_it() -> None:
    """Compare the next two models with LLaMA-7B in FLOPs, loss, and points."""

    def more(table: str, model: str, **where: str) -> float:
        of_7b = value(table, model="LLaMA-7B", **where)
        return value(table, model=model, **where) - of_7b

    found = [
        (
            f"{more('cost', model, stage='pretrain', quantity='flops'):.1e}",
            f"{more('pretraining_loss', model, quantity='loss'):.2f}",
            f"{more('rft_by_k', model, setting='rft_u33b'):.1f}",
        )
        for model in ("LLaMA2-7B", "LLaMA-13B")
    ]
    assert found == [("4.2e+22", "-0.05", "2.1"), ("3.6e+22", "-0.07", "2.3")]


def test_cost_of_a_cell_shared_by_two_models_is_listed_for_both() -> None:
    for stage in ("sft", "rft_inference", "rft_train"):
        for quantity in ("flops", "gpu_hours"):
            cells = values("cost", stage=stage, quantity=quantity)
            assert cells[0] == cells[1] < cells[2] == cells[3] <= cells[4] < cells[5] < cells[6]


def test_training_sets_are_as_large_as_their_paths_say() -> None:
    """Rows are the solutions plus Table 2's distinct paths."""
    for setting, k, model, k_of_paths in (
        ("rft", "100", "LLaMA-7B", "100"), ("rft_u13b", "", "u13b", "400"),
        ("rft_u33b", "", "u33b", "500"),
    ):  # fmt: skip
        paths = value("distinct_paths", model=model, k=k_of_paths)
        rows = {row.columns["rows"] for row in published_numbers("rft_by_k", setting=setting, k=k)}
        assert [int(text) for text in rows] == pytest.approx([7473 * (1 + paths)], rel=0.007)


def test_rows_keep_their_order_and_columns() -> None:
    rows = published_numbers("rft_by_k", model="LLaMA-7B", setting="rft")
    assert [row.columns["k"] for row in rows] == ["1", "3", "6", "12", "25", "50", "100"]
    assert rows[0] == (
        37.6,
        {
            "model": "LLaMA-7B", "setting": "rft", "k": "1", "part": "", "rows": "12000",
            "source": "Table 5", "reading": "printed",
        },
    )  # fmt: skip
    assert published_numbers("exclusive_paths", model="LLaMA-7B") == []


@pytest.mark.parametrize(
    ("table", "where", "message"),
    [
        ("costs", {}, r"paper/costs\.csv: no such table; use one of comparison,"),
        (
            "cost",
            {"k": "1"},
            r"cost\.csv: no column 'k' to select by; it has model, stage, quantity",
        ),
        ("cost", {"value": "10"}, "no column 'value' to select by"),
    ],
)
def test_unknown_tables_and_columns_are_named(
    table: str, where: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        published_numbers(table, **where)


@pytest.mark.parametrize("bad", ["b,4x", "b", "b,1,2", ""])
def test_a_malformed_line_is_named(
    bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    write_lines(tmp_path / "t.csv", ["model,value", "a,3.5", bad, "c,4"])
    message = r"t\.csv:3: expected model,value with a number as value; fix this line"
    with pytest.raises(UserError, match=message):
        published_numbers("t")
