"""A finished table as CSV, JSON and Markdown: nothing is rounded but what people read, nothing is NaN."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.output import Table, cells, markdown, right_columns, save
from qsit_metric.evaluation import EvaluationError

ROWS = (
    {"model": "a|b<i>", "SRCC": 0.95249999, "n": 2010, "ours": True},
    {"model": "c\\|d\ne", "SRCC": None, "n": 7, "ours": False},
)
MADE = {
    "model": "q-sit-mini",
    "seconds": 0.125,
    "versions": {"torch": "2.9", "pillow": None},
    "sets": ["koniq", "spaq"],
}


def table(**changes):
    given = {"name": "table4", "title": "Scoring", "columns": ("model", "SRCC", "n", "ours"), "rows": ROWS}
    return Table(**(given | changes))


def test_three_files_are_written_and_read_back_whole(tmp_path):
    found = table(notes=("of *all* | rows",), made=MADE)
    paths = save(found, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["table4.csv", "table4.json", "table4.md"]
    assert sorted(paths[0].parent.iterdir()) == sorted(paths)
    fields = json.loads(paths[1].read_text(encoding="utf-8"))
    assert fields["rows"] == [dict(row) for row in ROWS]
    assert (fields["made"], fields["notes"]) == (MADE, ["of *all* | rows"])
    with paths[0].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == [row["model"] for row in ROWS]
    assert [row["SRCC"] for row in rows] == ["0.95249999", ""]
    assert {row["made.versions.torch"] for row in rows} == {"2.9"}
    assert {row["made.sets"] for row in rows} == {"koniq, spaq"}


def test_markdown_has_as_many_cells_as_columns_whatever_the_text():
    lines = markdown(table(notes=("first\nline", "second"), made=MADE)).splitlines()
    assert lines[:2] == ["## Scoring", ""]
    assert lines[2:6] == [
        "| model | SRCC | n | ours |",
        "| --- | ---: | ---: | --- |",
        "| a\\|b&lt;i> | 0.952 | 2010 | yes |",
        "| c\\\\\\|d e |  | 7 | no |",
    ]
    assert lines[7:9] == ["- first line", "- second"]
    assert lines[10] == "Made with model q-sit-mini, seconds 0.125, versions.torch 2.9, sets koniq, spaq."


def test_a_column_may_ask_for_another_format():
    found = table(formats={"SRCC": ".1%"})
    assert [cells(found, row)[1] for row in found.rows] == ["95.2%", ""]
    with pytest.raises(EvaluationError, match="`formats`.*'PLCC'"):
        table(formats={"PLCC": ".1f"})


def test_only_columns_of_numbers_stand_on_the_right():
    assert right_columns(table()) == [False, True, True, False]
    assert right_columns(table(rows=())) == [False] * 4


@pytest.mark.parametrize("value", [math.nan, math.inf, [1], Path("x")])
def test_what_a_result_file_cannot_hold_is_refused(value):
    row = {**ROWS[0], "SRCC": value}
    with pytest.raises(EvaluationError, match="`row 1: SRCC`.*a finite number"):
        table(rows=(ROWS[0], row))
    if not isinstance(value, list):
        with pytest.raises(EvaluationError, match=r"`made: a\.b`"):
            table(made={"a": {"b": value}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../table4"}, "`name`: got '../table4'"),
        ({"columns": ("model", "model")}, "each name once"),
        ({"columns": ("model", "SRCC", "n")}, r"`row 0`: got \['ours'\], expected the columns model, SRCC, n and no"),
        ({"rows": ({"model": "a"},)}, r"`row 0`: got \['SRCC', 'n', 'ours'\]"),
    ],
)
def test_a_malformed_table_is_refused(changes, message):
    with pytest.raises(EvaluationError, match=message):
        table(**changes)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "table4.json").mkdir()
    with pytest.raises(EvaluationError, match=r"table4\.json"):
        save(table(), tmp_path)
