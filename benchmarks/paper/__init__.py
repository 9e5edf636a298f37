"""The numbers that the paper prints, as the CSV files here have them, and what puts them beside measured ones. Pure.

Paper: Q-SiT, arXiv 2503.09197, Tables I to VII and the text about Figs. 4, 5 and 7; see `README.md` here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from qsit_metric.evaluation import EvaluationError

Value: TypeAlias = "str | int | float | None"
PaperRow: TypeAlias = dict[str, Value]

FOLDER = Path(__file__).resolve().parent
NAMES = ("table1", "table2", "table3", "table4", "table5", "table6", "table7", "fig4", "fig5", "fig7")
SETS = ("koniq", "spaq", "livec", "agiqa", "kadid")
TYPES = ("yes_no", "what", "how")
CONCERNS = ("distortion", "other", "in_context_distortion", "in_context_other")
DIMENSIONS = ("completeness", "precision", "relevance")

_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-?\d+\.\d+")


def printed(name: str) -> list[PaperRow]:
    """The rows of one table or figure.

    Args:
        name: One of `NAMES`.

    Returns:
        Rows in the paper's order; integers and decimals are numbers, and what the paper does not print is None. Units
        are the paper's: correlations -1..1 in Tables II and IV, percent in Tables V and VI, shares in Table VII.

    Raises:
        EvaluationError: An unknown name.

    Example:
        >>> printed("table7")[-1]["scoring"], printed("fig7")[0]["latency"]
        (0.861, None)
    """
    if name not in NAMES:
        raise EvaluationError.about("name", name, f"one of {', '.join(NAMES)}")
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return [{key: typed(text) for key, text in row.items()} for row in csv.DictReader(file, strict=True)]


def typed(text: str) -> Value:
    """A cell of a CSV file as a number, as text, or as None where it is empty or a dash.

    Example:
        >>> typed("7"), typed("0.50"), typed("-"), typed("Q-SiT")
        (7, 0.5, None, 'Q-SiT')
    """
    if text in ("", "-"):
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def radar_rows() -> list[PaperRow]:
    """What Fig. 5 can be drawn from: (SRCC + PLCC) / 2 of Table IV and the accuracies of Table V, by model.

    Returns:
        One row for each model of Fig. 5: "model", the sets (-1..1, trained on SPAQ + KonIQ) and the sub-categories of
        LLVisionQA-test (0..1); None where no table prints a number, as for Q-Instruct.
    """
    scoring = {row["method"]: row for row in printed("table4") if _mixed(row)}
    interpreting = {row["model"]: row for row in printed("table5")}
    found: list[PaperRow] = []
    for model in printed("fig5"):
        four, five = scoring.get(model["table4_method"]), interpreting.get(model["table5_model"])
        row: PaperRow = {"model": model["model"]}
        row |= {name: both(four, name) if four else None for name in SETS}
        row |= {name: number(five, name) / 100 if five else None for name in (*TYPES, *CONCERNS)}
        found.append(row)
    return found


def number(row: Mapping[str, object], name: str) -> float:
    """A cell that holds a number.

    Raises:
        EvaluationError: It holds none.
    """
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EvaluationError.about(name, value, "a number")
    return float(value)


def both(row: Mapping[str, object], name: str) -> float:
    """(SRCC + PLCC) / 2 of a set in a row of Table IV."""
    return (number(row, f"{name}_srcc") + number(row, f"{name}_plcc")) / 2


def beside(
    ours: Iterable[Mapping[str, object]], paper: Iterable[Mapping[str, object]], on: Sequence[str]
) -> list[dict[str, object]]:
    """Put the paper's numbers into the rows of ours, in columns named "NAME (paper)".

    Args:
        ours: Measured rows, each with the columns `on`; they may differ in the others.
        paper: The paper's rows, likewise, no two with the same `on`.
        on: The columns that say which rows belong together.

    Returns:
        Our rows, then those that only the paper has; all have the same columns in the same order, a paper column
        right behind ours of the same name. What one side lacks is None.

    Raises:
        EvaluationError: Two of the paper's rows have the same `on`, or a row lacks it.

    Example:
        >>> beside([{"set": "KonIQ", "srcc": 0.91}], [{"set": "KonIQ", "srcc": 0.914}], ["set"])
        [{'set': 'KonIQ', 'srcc': 0.91, 'srcc (paper)': 0.914}]
    """
    measured, theirs = [dict(row) for row in ours], _keyed(paper, on)
    mine, rest = ([name for name in _columns(rows) if name not in on] for rows in (measured, theirs.values()))
    pairs: list[tuple[Mapping[str, object], Mapping[str, object]]] = []
    pairs += [(row, theirs.get(_key(row, on), {})) for row in measured]
    seen = {_key(row, on) for row in measured}
    pairs += [({}, row) for key, row in theirs.items() if key not in seen]
    return [_merged(here, there, on, mine, rest) for here, there in pairs]


def under(
    ours: Iterable[Mapping[str, object]], paper: Iterable[Mapping[str, object]], source: str = "source"
) -> list[dict[str, object]]:
    """Put the paper's rows below ours, in the same columns; `source` says whose each is.

    Example:
        >>> under([{"model": "mini", "srcc": 0.91}], [{"model": "Q-SiT", "srcc": 0.92}])[1]
        {'source': 'paper', 'model': 'Q-SiT', 'srcc': 0.92}
    """
    measured, theirs = [dict(row) for row in ours], [dict(row) for row in paper]
    columns = _columns([*measured, *theirs])
    whose = [(row, "measured") for row in measured] + [(row, "paper") for row in theirs]
    return [{source: who, **{name: row.get(name) for name in columns}} for row, who in whose]


def _merged(
    here: Mapping[str, object], there: Mapping[str, object], on: Sequence[str], mine: Sequence[str], rest: Sequence[str]
) -> dict[str, object]:
    found: dict[str, object] = {name: (here or there)[name] for name in on}
    for name in dict.fromkeys([*mine, *rest]):
        found |= {name: here.get(name)} if name in mine else {}
        found |= {f"{name} (paper)": there.get(name)} if name in rest else {}
    return found


def _mixed(row: PaperRow) -> bool:
    return row["training"] == "SPAQ+KonIQ" and row["sft"] == "after"


def _columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _key(row: Mapping[str, object], on: Sequence[str]) -> tuple[object, ...]:
    if absent := [name for name in on if name not in row]:
        raise EvaluationError.about("on", absent, f"some of the columns {', '.join(row)}")
    return tuple(row[name] for name in on)


def _keyed(rows: Iterable[Mapping[str, object]], on: Sequence[str]) -> dict[tuple[object, ...], dict[str, object]]:
    found: dict[tuple[object, ...], dict[str, object]] = {}
    for row in rows:
        key = _key(row, on)
        if key in found:
            raise EvaluationError.about("paper", key, f"one row for each {', '.join(on)}")
        found[key] = dict(row)
    return found
