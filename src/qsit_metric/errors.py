"""The errors that leave this package.

Each derives from `QSiTError` and from the built-in that a caller would catch anyway (ValueError, OSError ...), and its
message names the argument, the value that was read, what was expected and the next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typing_extensions import Self

_SHOWN = 120


class QSiTError(Exception):
    """Base of every error that the public API raises on purpose.

    Attributes:
        index: Place in the list of the image that failed; None for a single image.
        done: Results of the images before it, when a list was stopped by this error.
    """

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
        return cls(f"`{argument}`: got {shorten(value)}, expected {expected}.{' ' + hint if hint else ''}")


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


class DependencyError(QSiTError, ImportError):
    """An optional package that this call needs is not installed; the message names the extra."""


class BackendError(QSiTError, RuntimeError):
    """A backend failed while computing (out of memory, device lost, a closed view ...)."""


def shorten(value: object) -> str:
    """Show a value in a message: `repr`, at most 120 characters; text in angle brackets stays as it is.

    What is too long loses its middle: the end of a path says more than its beginning.
    """
    text = value if isinstance(value, str) and value.startswith("<") else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 3]}...{text[-2 * _SHOWN // 3 + 3 :]}"
