"""The errors of the training program, in the grammar of the library's own."""

from __future__ import annotations

from qsit_metric.errors import QSiTError
from qsit_metric.files import Files


class RecipeError(QSiTError, ValueError):
    """A recipe, or an override of one, that cannot be used."""


class DataError(QSiTError, ValueError):
    """Training data that is malformed, incomplete or not what was frozen; the message names rows."""


class RunError(QSiTError, RuntimeError):
    """A run that cannot start, go on or be saved; the last good checkpoint stays as it was."""


FILES = Files(DataError, "file", parents=True)
"""Files of training data."""
