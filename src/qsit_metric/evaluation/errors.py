"""The errors of evaluation."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TypeVar

from ..errors import DependencyError, QSiTError

_SHOWN = 5

E = TypeVar("E", bound=BaseException)


class EvaluationError(QSiTError, ValueError):
    """Labels, questions or scores that cannot be used; the message names the rows."""


class UndefinedError(EvaluationError):
    """A statistic that these numbers do not have, such as the correlation of a constant; the message is the reason."""


def refuse(
    source: object, reasons: Sequence[str], total: int, unit: str = "row", refused: list[str] | None = None
) -> None:
    """Raise if there are reasons to: how many rows, and the first few by name.

    Args:
        source: The file or data set, for the message.
        reasons: One for each row that cannot be used.
        total: How many rows there are.
        unit: What one of them is called.
        refused: Takes the reasons, and nothing is raised as long as one row is left.

    Raises:
        EvaluationError: `reasons` is not empty, and there is no `refused` or no other row.
    """
    if not reasons:
        return
    if refused is not None and len(reasons) < total:
        refused += reasons
        return
    shown = "; ".join(reasons[:_SHOWN]) + ("; ..." if len(reasons) > _SHOWN else "")
    repair = "Repair it." if len(reasons) == 1 else "Repair them."
    raise EvaluationError(f"`{source}`: {len(reasons)} of {counted(total, unit)} cannot be used: {shown}. {repair}")


def counted(number: int, unit: str) -> str:
    """A number of things, as one says it.

    Example:
        >>> counted(1, "row"), counted(2, "row")
        ('1 row', '2 rows')
    """
    return f"{number} {unit}{'' if number == 1 else 's'}"


def missing(package: str, path: object) -> DependencyError:
    """The error of a format whose package is not installed."""
    return DependencyError.about(
        "path", str(path), f"{package} to be installed, which reads this format", "pip install 'qsit-metric[eval]'"
    )


def to_keep(error: E) -> E:
    """An error that may be kept for long: its frames no longer hold pictures and tensors."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error
