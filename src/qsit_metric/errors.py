"""The errors that leave this package.

Each derives from `QSiTError` and from the built-in that a caller would catch anyway (ValueError, OSError ...). It keeps
the argument, the value that was read, what was expected and the next step as fields, and puts them into a sentence
only when it is shown, so that whoever passes it on may say the same in other words (`retold`).
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, TypeVar

from typing_extensions import Self

_SHOWN = 120
_SHOWN_ROWS = 5

_Error = TypeVar("_Error", bound=BaseException)
E = TypeVar("E", bound="QSiTError")


class QSiTError(Exception):
    """Base of every error that the public API raises on purpose.

    Attributes:
        argument: Name of the argument as the caller wrote it; empty for an error that is a sentence of its own.
        got: What was read. Text, numbers, paths and None are kept; of anything else, only what the message shows of it,
            so that an error that is kept does not keep a picture in memory.
        expected: What would have been right.
        hint: The next step, a full sentence, or empty.
        where: Where it stands, for example "labels.csv, row 3"; in front of the message, or empty.
        index: Place in the list of the image that failed; None for a single image.
        done: Results of the images before it, when a list was stopped by this error.

    Example:
        >>> error = InputError.about("question", "", "a non-empty string", "Ask something.")
        >>> print(error.argument, "|", error.expected)
        question | a non-empty string
        >>> print(error.retold(where="questions.json", hint=""))
        questions.json: `question`: got '', expected a non-empty string.
    """

    argument: str = ""
    got: object = None
    expected: str = ""
    hint: str = ""
    where: str = ""
    index: int | None = None
    done: Sequence[Any] = ()

    @classmethod
    def about(cls, argument: str, value: object, expected: str, hint: str = "") -> Self:
        """Build the error in the house's grammar.

        Args:
            argument: Name of the argument as the caller wrote it.
            value: What was read; shown with `repr`, shortened. A string that starts with "<" is shown as it is.
            expected: What would have been right.
            hint: The next step, a full sentence.

        Example:
            >>> str(InputError.about("question", "", "a non-empty string", "Ask something."))
            "`question`: got '', expected a non-empty string. Ask something."
        """
        error = cls()
        error.argument, error.got, error.expected, error.hint = argument, _kept(value), expected, hint
        return error

    def retold(
        self,
        *,
        argument: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        where: str | None = None,
    ) -> Self:
        """Give the same error in other words; None leaves a field as it is."""
        told = copy.copy(self)
        for name, text in (("argument", argument), ("expected", expected), ("hint", hint), ("where", where)):
            if text is not None:
                setattr(told, name, text)
        return told

    def turned(self, kind: type[E]) -> E:
        """Give the same error as one of another class, for who calls a room by another name."""
        told = kind(*self.args)
        told.__dict__.update(self.__dict__)
        return told

    @property
    def reason(self) -> str:
        """The message without argument and value, for who names them beside it.

        Example:
            >>> InputError.about("image", "a.jpg", "an existing file", "Check the spelling.").reason
            'expected an existing file. Check the spelling.'
        """
        said = f"expected {self.expected}." if self.argument else super().__str__()
        return f"{said} {self.hint}" if self.hint else said

    def __str__(self) -> str:
        said = f"`{self.argument}`: got {shorten(self.got)}, {self.reason}" if self.argument else self.reason
        return f"{self.where}: {said}" if self.where else said

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class InputError(QSiTError, ValueError):
    """An argument that cannot be used (question, choices, tensor range, shape ...)."""


class ImageError(InputError):
    """A picture that cannot be read or used."""


class UnknownNameError(QSiTError, ValueError):
    """A model, backend or recipe name that nobody registered; the message lists the known and the nearest."""


class CheckpointError(QSiTError, OSError):
    """A checkpoint folder that is incomplete, inconsistent or unsafe to load."""


class HubError(QSiTError, OSError):
    """The Hub did not deliver: no network, no such repository or revision, no permission, a broken transfer."""


class OutputError(QSiTError, OSError):
    """A result file that cannot be written, or that is not this run's to write."""


class DependencyError(QSiTError, ImportError):
    """An optional package that this call needs is not installed; the message names the extra."""


class BackendError(QSiTError, RuntimeError):
    """A backend failed while computing (out of memory, device lost, a closed view ...)."""


class EvaluationError(QSiTError, ValueError):
    """Labels, questions or scores that cannot be used; the message names the rows."""


class UndefinedError(EvaluationError):
    """A statistic that these numbers do not have, such as the correlation of a constant; the message is the reason."""


class _Shown(str):
    """What a message shows of a value that is not kept."""

    __slots__ = ()


def shorten(value: object) -> str:
    """Show a value in a message: `repr`, at most 120 characters; text in angle brackets stays as it is.

    What is too long loses its middle: the end of a path says more than its beginning.
    """
    as_it_is = isinstance(value, _Shown) or (isinstance(value, str) and value.startswith("<"))
    text = str(value) if as_it_is else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 3]}...{text[-2 * _SHOWN // 3 + 3 :]}"


def counted(number: int, unit: str) -> str:
    """A number of things, as one says it.

    Example:
        >>> counted(1, "row"), counted(2, "row")
        ('1 row', '2 rows')
    """
    return f"{number} {unit}{'' if number == 1 else 's'}"


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
    shown = "; ".join(reasons[:_SHOWN_ROWS]) + ("; ..." if len(reasons) > _SHOWN_ROWS else "")
    repair = "Repair it." if len(reasons) == 1 else "Repair them."
    raise EvaluationError(f"`{source}`: {len(reasons)} of {counted(total, unit)} cannot be used: {shown}. {repair}")


def released(error: _Error) -> _Error:
    """Clear the frames of an error that is kept for long: their local variables hold pictures and tensors."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    return error


def _kept(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float | PurePath) else _Shown(shorten(value))
