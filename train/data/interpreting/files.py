"""Files of the builder: whole or not there, with errors of ours."""

from __future__ import annotations

from pathlib import Path

from qsit_metric.files import write_atomic

from ...errors import DataError


def save(path: Path, content: str | bytes) -> None:
    """Write a file in one step and make its folder if it is missing.

    Raises:
        DataError: The system refuses (no permission, no space ...); what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        hint = f"The system says: {error}."
        raise DataError.about("file", str(path), "a place that can be written to", hint) from error
