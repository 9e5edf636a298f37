"""The paper's rows in the columns of our tables. Pure."""

from __future__ import annotations

from benchmarks.paper import CONCERNS, SETS, TYPES, PaperRow
from benchmarks.paper import printed as rows_of


def table4() -> list[PaperRow]:
    """Table IV: "model" (with what it was trained on), "SET SRCC", "SET PLCC" and "average".

    Example:
        >>> table4()[-1]["average"]
        0.861
    """
    return [_agreement(row) for row in rows_of("table4")]


def table5() -> list[PaperRow]:
    """Table V: "model", the types, the concerns and "overall", in percent.

    Example:
        >>> table5()[0]["model"], table5()[0]["yes-no"]
        ('random guess', 50.0)
    """
    return [_accuracy(row) for row in rows_of("table5")]


def _agreement(row: PaperRow) -> PaperRow:
    sft = " before SFT" if row["sft"] == "before" else ""
    found: PaperRow = {"model": f"{row['method']}{sft} ({row['training']})"}
    for name in SETS:
        found |= {f"{name} {kind}": row[f"{name}_{kind.lower()}"] for kind in ("SRCC", "PLCC")}
    return {**found, "average": row["avg"]}


def _accuracy(row: PaperRow) -> PaperRow:
    model = f"{row['model']} ({row['language_model']})" if row["language_model"] else row["model"]
    own = {"yes_no": "yes-no"} | {name: name.replace("in_context_", "in-context ") for name in CONCERNS}
    return {"model": model, **{own.get(name, name): row[name] for name in (*TYPES, *CONCERNS, "overall")}}
