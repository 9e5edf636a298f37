"""The results as tables of Markdown, and the CSV rows behind them. Pure but for reading the extra files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.nano.evaluate import RULES, Replied, Scored
from benchmarks.nano.questions import KINDS, text_only
from benchmarks.nano.training import LEVELS
from qsit_metric.evaluation import EvaluationError
from qsit_metric.files import Files

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "ablation.json": ("name", "srcc", "plcc", "n", "accuracy", "questions", "seconds"),
    "leave-one-out.json": ("type", "srcc", "n"),
}
"""Files that may lie beside the results, and the columns of their rows."""

_TITLES = {"ablation.json": "Ablation", "leave-one-out.json": "Leave one type out"}
_NOTES = {
    "ablation.json": "Runs of equally many rows from the same base, with a frozen tower, far shorter than the model's "
    "own (as Table VII of the paper); `accuracy` is over all kinds of questions.",
    "leave-one-out.json": "A run each with no row about a picture of the type, or of the corruption that looks like "
    "it, measured on all levels of the type and the untouched photographs. The shared vision tower had seen the type "
    "in its first stage.",
}


def score_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Rows of `nano-scores.csv`."""
    return [
        {
            "photograph": one.case.photograph, "type": one.case.kind or "pristine", "level": one.case.level,
            "label": one.case.label, "score": one.score, "word": one.level, "sampled": one.case.sampled,
            "error": one.error,
        }
        for one in scored
    ]  # fmt: skip


def question_rows(replied: Sequence[Replied]) -> list[dict[str, Any]]:
    """Rows of `nano-questions.csv`; `reply` and `correct` are by likelihood."""
    good = [one for one in replied if not one.error]
    chances = dict(zip((one.asked.question.id for one in good), text_only([one.asked for one in good]), strict=True))
    return [_question_row(one, chances.get(one.asked.question.id)) for one in replied]


def _question_row(one: Replied, chance: float | None) -> dict[str, Any]:
    question, picture = one.asked.question, one.asked.picture
    done = " + ".join(f"{d.kind}{' (corruption)' if d.corruption else ''} {d.level:g}" for d in picture.degradations)
    row: dict[str, Any] = {
        "id": question.id, "photograph": picture.photograph, "degradations": done or "pristine", "kind": question.type,
        "question": question.question, "options": " | ".join(question.choices),
        "answer": question.choices[question.answer or 0],
    }  # fmt: skip
    for name, hidden in (("", False), ("_hidden", True)):
        for form, rule in zip(("", "_written"), RULES, strict=True):
            row[f"reply{name}{form}"] = (one.hidden if hidden else one.seen).get(rule)
            row[f"correct{name}{form}"] = None if one.error else one.correct(rule, hidden)
    return {**row, "text_only": chance, "error": one.error}


def extras(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of the extra files that are there.

    Raises:
        EvaluationError: A file of another form.
    """
    return {name: _extra(folder / name, columns) for name, columns in EXTRAS.items() if (folder / name).is_file()}


def _extra(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    try:
        rows = Files(EvaluationError, "file").json(path)["rows"]
        return [{name: row[name] for name in columns} for row in rows]
    except (KeyError, TypeError) as error:
        expected = f'{{"rows": [...]}} with {", ".join(columns)} in each'
        raise EvaluationError.about("file", str(path), expected) from error


def markdown(found: Mapping[str, Any]) -> str:
    """`nano.md` of the results that stand in `nano.json`."""
    parts = [
        _head(found), "## Targets\n\n" + _table(("", "measured", "target", "met"), target_cells(found["targets"])),
        _scoring(found["scoring"]), _monotone(found["monotone"]),
        _questions(found["questions"]), _types(found["scoring"]["by_type"]), _speed(found["speed"]),
        *(_added(name, rows) for name, rows in found["extras"].items()), _failed(found["failed"]),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(found: Mapping[str, Any]) -> str:
    made, photographs = found["made"], found["photographs"]
    counts = f"{found['images']['scored']} pictures and {found['images']['questions']} questions"
    return (
        f"# {made['model']}\n\n"
        f"{counts} of {photographs['n']} photographs, seed {found['seed']}. Weights {made['revision']}, recipe "
        f"{made['recipe']}, {made['dtype']} on {made['device']}; qsit-metric {made['qsit_metric']}, torch "
        f"{made['torch']}, transformers {made['transformers']}, Pillow {made['pillow']}, Python {made['python']}."
    )


def target_cells(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Name, measured value, demand, and whether it is met, of each target as text."""
    return [
        (
            row["name"],
            _value(row["measured"], row["unit"]),
            f"{row['relation']} {_value(row['bound'], row['unit'])}",
            "yes" if row["met"] else "no",
        )
        for row in rows
    ]


def _scoring(found: Mapping[str, Any]) -> str:
    rows = []
    for name, key in (("all", "all"), ("degraded only", "degraded")):
        one = found[key]
        rows.append((name, one["n"], *(_with(one[s], one[f"{s}_interval"], 3) for s in ("srcc", "plcc"))))
    pristine = found["pristine"]
    return (
        "## Scoring\n\nScores against the mean that people gave each type and level (KADID-10k), with 95 % intervals "
        "over photographs. Every type and level counts equally.\n\n"
        + _table(("pictures", "n", "SRCC", "PLCC"), rows)
        + f"\n\n{pristine['n']} untouched photographs: mean score {_value(pristine['mean'])}."
    )


def _monotone(found: Mapping[str, Any]) -> str:
    rows = [
        (
            kind, *(_value(mean) for mean in one["means"]), "yes" if one["falls"] else "no",
            f"{_value(one['below'], '%')} of {one['n']}",
        )
        for kind, one in found.items()
    ]  # fmt: skip
    columns = ("type", *(f"level {level}" for level in LEVELS), "falls", "level 5 below level 1")
    return "## Mean score by level\n\n" + _table(columns, rows)


def _questions(found: Mapping[str, Any]) -> str:
    rows = []
    for kind in KINDS:
        one = found[kind]
        rules = (one["logits"], one["authors"])
        seen = (_with(rule["accuracy"], rule["interval"], "%") for rule in rules)
        hidden = (_value(rule["hidden"], "%") for rule in rules)
        rows.append((kind, one["n"], *seen, *hidden, _value(one["text_only"], "%")))
    text = (
        "## Questions\n\nAccuracy with 95 % intervals (Wilson), by the likelihood of the options and by the written "
        "reply, with the picture and with a grey one in its place; `words alone` is the answer that was most often "
        "right to the same words on other photographs.\n\n"
    )
    columns = ("kind", "n", "likelihood", "written", "hidden, likelihood", "hidden, written", "words alone")
    return text + _table(columns, rows)


def _types(found: Mapping[str, Any]) -> str:
    rows = [(kind, one["n"], _value(one["srcc"], places=3)) for kind, one in found.items()]
    return "## SRCC of each type\n\nWith the untouched photographs.\n\n" + _table(("type", "n", "SRCC"), rows)


def _speed(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    load, large, many, c = (found[name] for name in ("load", "large", "many", "conditions"))
    rows = [
        ("12-megapixel JPEG, from path to score", _value(large["seconds"], "s")),
        ("the same, peak memory of the process", _value(large["peak"], "MiB")),
        ("the same, increase over the loaded model", _value(large["increase"], "MiB")),
        ("512x384, 16 in one batch", _value(many["batch"], "images/s")),
        ("512x384, 16 singles", _value(many["singles"], "images/s")),
        ("512x384, list of 16 as the metric batches it", _value(many["default"], "images/s")),
        ("loading, once everything is imported", _value(load["again"], "s")),
        ("loading in a new process, imports included", _value(load["whole"], "s")),
    ]
    busy = "" if many["others"] is None else f" Others kept {many['others']:.1f} cores busy meanwhile."
    place = f"{c['gpu'] or c['cpu']}, {c['cores']} cores, {c['threads']} threads, {c['dtype']}, {c['date']}.{busy}"
    return f"## Speed\n\n{place}\n\n" + _table(("", "median"), rows)


def _added(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        tuple(_value(value, places=3) if isinstance(value, float | None) else value for value in row.values())
        for row in rows
    ]
    return f"## {_TITLES[name]}\n\n{_NOTES[name]}\n\n" + _table(EXTRAS[name], cells)


def _failed(rows: Sequence[Mapping[str, Any]]) -> str:
    return "## Failed\n\n" + _table(("what", "error"), [(row["what"], row["error"]) for row in rows]) if rows else ""


def _value(value: float | None, unit: str = "", places: int = 2) -> str:
    if value is None:
        return "-"
    if unit == "%":
        return f"{100 * value:.1f} %"
    shown = f"{value:d}" if isinstance(value, int) else f"{value:.0f}" if unit == "MiB" else f"{value:.{places}f}"
    return f"{shown} {unit}".rstrip()


def _with(value: float | None, interval: Sequence[float] | None, form: int | str) -> str:
    def shown(number: float | None) -> str:
        return _value(number, "%") if form == "%" else _value(number, places=int(form))

    return shown(value) if interval is None else f"{shown(value)} ({shown(interval[0])} to {shown(interval[1])})"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
