"""Table I: how models rate when nobody tells them how: in words, or in numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from benchmarks.artefacts import RATE
from benchmarks.artefacts.shared import CONDITIONS, Cells, beside, failures, identity, of_kind, state
from benchmarks.output import Table
from benchmarks.page import Page
from benchmarks.paper import printed
from benchmarks.runs import Results
from qsit_metric.errors import shorten
from qsit_metric.evaluation import EvaluationError

if TYPE_CHECKING:
    from benchmarks.artefacts import Request


Kind = Literal["qualitative", "numerical", "neither"]

ADJECTIVES = frozenset(
    """
    acceptable adequate average awful bad beautiful best better blurred blurry bright clear crisp dark decent degraded
    detailed distorted dull excellent exceptional fair faded fine flawless fuzzy good grainy great hazy high horrible
    impressive inferior low mediocre medium moderate nice noisy normal outstanding overexposed passable perfect
    pixelated pleasing poor professional reasonable satisfactory sharp standard stunning subpar sub-par superb superior
    terrible unacceptable unclear underexposed unsatisfactory vibrant vivid worse worst
    """.split()  # noqa: SIM905
)
"""The five levels of ITU-R BT.500 and what else people call the quality of a picture."""

_WORDS = "two|three|four|five|six|seven|eight|nine|ten"
_DIGITS = r"(?<![\w.,])\d{1,3}(?:\.\d+)?(?!\w|[.,]\d)"
_ANY = rf"(?:{_DIGITS}|\b(?:zero|one|{_WORDS})\b)"
_NAMED = r"(?:scored?|rat(?:e[sd]?|ing)|grade[sd]?|marks?|gives?|quality)"
_JOINT = r"(?:\b(?:is|as|at|an?|be|it|around|about|approximately|roughly|(?:score|rating|grade|mark)\s+(?:of|is))|[:=])"
_AFTER = r"out\s+of|percent|stars?|points?|on|because|due|since|as|for|based|given|with"
_END = rf"(?=-stars?\b|\s*(?:$|[.,;:!?)\]\"'*/%]|(?:{_AFTER})\b))"

_SCALE = re.compile(
    rf"\b(?:scale|range)\s+(?:of|from|between)?\s*{_ANY}\s*(?:to|and|through|-|–)\s*{_ANY}"
    rf"|{_ANY}\s*(?:to|-|–)\s*{_ANY}(?:[\s-]+points?)?[\s-]+scale",
    re.IGNORECASE,
)
_RATINGS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"{_ANY}\s*(?:/|\bout\s+of\b)\s*(?:a\s+possible\s+)?(?:5|10|100|five|ten|a?\s*hundred)\b(?!\s+of\b)",  # 7/10
        rf"\b{_NAMED}\b[^.!?\n]{{0,60}}?{_JOINT}[\s*]*{_DIGITS}{_END}",  # I would rate it as 7
        rf"\b(?:score|rating|grade)\s+{_DIGITS}{_END}",  # rating 7
        rf"\b{_NAMED}\b[^.!?\n]{{0,60}}?\b(?:an?|(?:score|rating|grade)\s+of)\s+(?:{_WORDS}){_END}",  # give it a seven
        rf"\A\W*{_ANY}\s*(?:%|percent|stars?|points?)?\W*\Z",  # 7
    )
)
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def page(request: Request) -> Page:
    """How models rate when nobody tells them how."""
    return Page((make(request.runs("ratings", request.names or ["livec"]), paper=printed("table1")),))


def has_number(reply: str) -> bool:
    """Whether the reply rates with a number.

    Example:
        >>> has_number("I would rate it 7 out of 10."), has_number("On a scale of 1 to 10, it is good.")
        (True, False)
    """
    text = _SCALE.sub("", reply)
    return any(pattern.search(text) for pattern in _RATINGS)


def has_adjective(reply: str) -> bool:
    """Whether the reply has one of `ADJECTIVES`, also as a part of a compound such as "high-quality"."""
    words = set(_WORD.findall(reply.lower()))
    return bool(ADJECTIVES & (words | {part for word in words for part in word.split("-")}))


def classify(reply: str) -> Kind:
    """Say what a reply rates with.

    Args:
        reply: A model's answer.

    Returns:
        "numerical" if it rates with a number, whatever words explain it; else "qualitative" if it has an adjective of
        quality; else "neither".

    Example:
        >>> classify("The quality of the image is fair."), classify("8/10, since it is sharp"), classify("A red car.")
        ('qualitative', 'numerical', 'neither')
    """
    if has_number(reply):
        return "numerical"
    return "qualitative" if has_adjective(reply) else "neither"


COLUMNS = (
    "model", "set", "qualitative_percent", "qualitative", "numerical_percent", "numerical", "neither", "both", "images",
    "cut", "failed", "partial", *CONDITIONS,
)  # fmt: skip

_LISTED = 5  # replies of neither kind that are shown under the table


def make(runs: Sequence[Results], *, paper: Sequence[Mapping[str, object]] = ()) -> Table:
    """One row a model: how many of its replies rate with an adjective and how many with a number.

    Args:
        runs: Of `describe_run` with `RATE`, whole or not; others of its kind, with another prompt, do not count.
        paper: `benchmarks.paper.printed("table1")`.

    Raises:
        EvaluationError: No run asked this, or one model and set twice.

    Example:
        >>> make([Results.read(folder)], paper=printed("table1")).rows[-1]["qualitative"]  # doctest: +SKIP
        1132
    """
    asked = [run for run in runs if run.run["kind"] == "descriptions" and run.run["prompt"] == RATE]
    if not asked:
        raise EvaluationError.about("runs", "<none of them>", f"at least one run of descriptions that asks {RATE!r}")
    found = of_kind(asked, "descriptions")
    rows = beside([_row(run) for run in found], paper, COLUMNS)
    formats = dict.fromkeys(("qualitative_percent", "numerical_percent"), ".0f")
    return Table(
        "table1", "Table I: ratings in words and in numbers", COLUMNS, tuple(rows), _notes(found), _made(found), formats
    )


def _row(run: Results) -> Cells:
    replies = [str(row["reply"]) for row in run.good]
    kinds = [classify(reply) for reply in replies]
    counts = {kind: kinds.count(kind) for kind in ("qualitative", "numerical", "neither")}
    shares = {f"{kind}_percent": 100 * number / len(kinds) if kinds else None for kind, number in counts.items()}
    both = sum(kind == "numerical" and has_adjective(reply) for kind, reply in zip(kinds, replies, strict=True))
    cut = sum(not row["finished"] for row in run.good)
    return {
        **identity(run), "set": run.run["set"], **counts, "both": both, "images": len(kinds), "cut": cut,
        "failed": len(run.failed), "partial": state(run),
        "qualitative_percent": shares["qualitative_percent"], "numerical_percent": shares["numerical_percent"],
    }  # fmt: skip


def _notes(runs: Sequence[Results]) -> tuple[str, ...]:
    return (
        f"Asked: {RATE}",
        "qualitative: an adjective of quality and no number as the rating; numerical: a number as the rating, also "
        "where adjectives explain it (both says how many of these); neither: no rating. The rules are ours.",
        "cut: replies that reached the limit of tokens; they are classified as far as they go.",
        *(note for run in runs for note in _strange(run)),
        *failures(runs),
    )


def _strange(run: Results) -> list[str]:
    """The first few replies that rate in neither way."""
    found = [row for row in run.good if classify(str(row["reply"])) == "neither"]
    if not found:
        return []
    shown = "; ".join(f"{row['id']} {shorten(row['reply'])}" for row in found[:_LISTED])
    return [f"{run.run['made']['model']}: {len(found)} of neither kind, such as {shown}"]


def _made(runs: Sequence[Results]) -> dict[str, object]:
    limits = sorted({str(run.run["max_new_tokens"]) for run in runs})
    return {"images": {str(run.run["set"]): run.run["sha256"] for run in runs}, "max_new_tokens": ", ".join(limits)}
