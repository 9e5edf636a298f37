"""What a built D2 holds, in figures. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..rows import Row


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Count rows by kind, yes and no, and right letters by the number of options.

    Args:
        rows: Rows of `build`; their ids begin with the kind.

    Example:
        >>> summary([Row("yes_no/000000/0", "a.jpg", (("Is it sharp?", "No"),))])["yes_no"]
        {'Yes': 0, 'No': 1}
    """
    kinds = Counter(kind_of(row) for row in rows)
    said = Counter(row.turns[0][1] for row in rows if kind_of(row) == "yes_no")
    letters: dict[str, Counter[str]] = {}
    for row in rows:
        if kind_of(row).startswith("choice-"):
            question, answer = row.turns[0]
            count = sum(line[1:3] == ". " for line in question.splitlines())
            letters.setdefault(str(count), Counter())[answer] += 1
    return {
        "rows": len(rows),
        "images": len({row.image for row in rows}),
        "kinds": dict(sorted(kinds.items())),
        "yes_no": {answer: said[answer] for answer in ("Yes", "No")},
        "letters_by_options": {count: dict(sorted(found.items())) for count, found in sorted(letters.items())},
        "mean_words_pathway": _mean([len(row.turns[0][1].split()) for row in rows if kind_of(row) == "pathway"]),
    }


def kind_of(row: Row) -> str:
    """The kind of a row of `build`: "pathway", "yes_no", "what", "how", "choice-..." or "conversation-..."."""
    return row.id.split("/", 1)[0]


def _mean(values: Sequence[int]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
