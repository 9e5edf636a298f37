"""The golden texts that descriptions are judged against; a file of the user's, since LLDescribe keeps them private."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.errors import refuse
from qsit_metric.evaluation.files import read_json_list

_IMAGE, _TEXT = ("image", "img_path"), ("golden", "description")


def read_golden(path: Path) -> dict[str, str]:
    """Read `[{"image": "a.jpg", "golden": "The image is slightly blurred ..."}, ...]`.

    Args:
        path: JSON. "img_path" is read as "image", "description" as "golden"; other fields do not count.

    Returns:
        Image, as the run of descriptions names it -> golden text.

    Raises:
        EvaluationError: No such list, or rows without an image, without text, or about an image that has one already.
    """
    found: dict[str, str] = {}
    reasons = []
    rows = read_json_list(path)
    for number, row in enumerate(rows):
        try:
            image, text = _field(row, _IMAGE), _field(row, _TEXT)
            if image in found:
                raise EvaluationError.about("image", image, "one golden text for each image")
            found[image] = text
        except EvaluationError as error:  # noqa: PERF203
            reasons.append(f"row {number}: {error}")
    refuse(path, reasons, len(rows))
    return found


def _field(row: Any, names: tuple[str, ...]) -> str:
    held = [row[name] for name in names if name in row] if isinstance(row, dict) else []
    if len(held) != 1 or not isinstance(held[0], str) or not held[0].strip():
        raise EvaluationError.about(
            names[0], held[0] if held else "<nothing>", f"text, in a field {' or '.join(names)}"
        )
    return held[0].strip()
