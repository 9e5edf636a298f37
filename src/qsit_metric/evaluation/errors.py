"""The errors of evaluation."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TypeVar

from ..errors import QSiTError

_SHOWN = 5

E = TypeVar("E", bound=BaseException)


class EvaluationError(QSiTError, ValueError):
    """Labels, questions or scores that cannot be used; the message names the rows."""


class UndefinedError(EvaluationError):
    """A statistic that these numbers do not have, such as the correlation of a constant; the message is the reason."""


def refuse(source: object, reasons: Sequence[str], total: int, unit: str = "rows") -> None:
    """Raise if there are reasons to: how many rows, and the first few by name.

    Raises:
        EvaluationError: `reasons` is not empty.
    """
    if reasons:
        shown = "; ".join(reasons[:_SHOWN]) + ("; ..." if len(reasons) > _SHOWN else "")
        raise EvaluationError(f"`{source}`: {len(reasons)} of {total} {unit} cannot be used: {shown}. Repair them.")


def to_keep(error: E) -> E:
    """An error that may be kept for long: its frames no longer hold pictures and tensors."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error
