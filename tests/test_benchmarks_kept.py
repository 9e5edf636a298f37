"""Results of earlier versions stay: runs are read and gone on with, and the tables made from them are the same bytes.

`tests/golden/benchmark-runs` was written by 496d4ac: runs, of which one was killed in the middle of a line, and tables.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a program of the checkout, which nobody installs

from benchmarks.artefacts import table1, table4, table5, table6
from benchmarks.nano import report
from benchmarks.output import Table, csv_text, markdown
from benchmarks.paper import printed
from benchmarks.quadrants import Case, Found, table
from benchmarks.runs import Process, Results, score_run
from qsit_metric.evaluation import Item, Manifest

KEPT = Path(__file__).parent / "golden" / "benchmark-runs"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
LISTED = Manifest("livec", [Item(f"{n}.png", (7 * n) % 13 + n / 2, f"id-{n}") for n in range(12)], "images")


def run(name: str) -> list[Results]:
    return [Results.read(KEPT / name)]


def length(path: str) -> float:
    """The metric that was run."""
    return 1 + int(Path(path).stem) ** 2 % 11 / 3


def test_tables_of_kept_runs_are_the_same_bytes() -> None:
    made = [
        table1.make(run("ratings"), paper=printed("table1")),
        table4.make(run("scores"), paper=printed("table4")),
        table4.details(run("scores"), rounds=50),
        table5.make(run("questions"), paper=printed("table5")),
        table5.details(run("questions")),
        table6.make(run("judgements"), paper=printed("table6")),
    ]
    assert {f"{one.name}.md" for one in made} == {path.name for path in (KEPT / "tables").glob("*.md")}
    for one in made:
        assert markdown(one).encode() == (KEPT / "tables" / f"{one.name}.md").read_bytes(), one.name
        assert csv_text(one).encode() == (KEPT / "tables" / f"{one.name}.csv").read_bytes(), one.name


def test_a_kept_run_goes_on(tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT / "scores", tmp_path / "scores")
    part = folder / "part-00000.jsonl"
    with part.open("a", encoding="utf-8") as file:
        file.write('{"id": "id-7", "pl')  # as a kill leaves it
    before = Results.read(folder)
    assert (len(before.rows), len(before.failed), before.complete) == (12, 1, True)
    asked: list[str] = []

    def metric(path: str) -> float:
        asked.append(Path(path).name)
        return length(path)

    metric.__qualname__ = "length"
    assert score_run(metric, LISTED, folder, process=Process()).rows == before.rows
    assert asked == []
    again = score_run(metric, LISTED, folder, process=Process(), retry_failed=True)
    assert asked == ["4.png"]
    assert (again.repeated, again.failed) == (1, [])
    assert all(json.loads(line) for line in part.read_text(encoding="utf-8").splitlines())


def test_pages_of_kept_measurements_are_the_same_bytes() -> None:
    found = json.loads((RESULTS / "nano" / "nano.json").read_text(encoding="utf-8"))
    assert report.markdown(found) == (RESULTS / "nano" / "nano.md").read_text(encoding="utf-8")
    kept = json.loads((RESULTS / "quadrants" / "quadrants.json").read_text(encoding="utf-8"))
    formats = table([Found(Case("a", "jpeg", 5, 0), (1.0, 2.0, 3.0, 4.0), 0, 2.0)], {}).formats
    fields = {**kept, "columns": tuple(kept["columns"]), "notes": tuple(kept["notes"]), "rows": tuple(kept["rows"])}
    same = Table(**fields, formats=formats)
    assert markdown(same) == (RESULTS / "quadrants" / "quadrants.md").read_text(encoding="utf-8")
    assert csv_text(same) == (RESULTS / "quadrants" / "quadrants.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("room", ["nano/training.py", "artefacts/fig4.py"])
def test_train_is_looked_into_through_two_doors(room: str) -> None:
    root = Path(__file__).parents[1] / "benchmarks"
    doors = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if any(line.split()[:1] in (["from"], ["import"]) and line.split()[1].split(".")[0] == "train"
               for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    }  # fmt: skip
    assert room in doors
    assert len(doors) == 2
