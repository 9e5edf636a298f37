"""LLDescribe (Q-Bench A2): pictures to be described, and the golden texts of whoever has them.

Only the pictures are published (`nanyangtu/LLDescribe-QBench`, 499 of them); the golden descriptions are private, as
the maintainer says in Q-Bench's issue 8. Their file format is therefore ours: a JSON list of `{"img_path", "golden"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import shorten
from .errors import EvaluationError, refuse
from .files import PathLike, read_json_list
from .manifest import check_image

N_PUBLISHED = 499  # pictures
_IMAGE, _GOLDEN = ("img_path", "image"), ("golden", "description")


@dataclass(frozen=True)
class ToDescribe:
    """One picture of LLDescribe.

    Attributes:
        image: Path below the image folder, with forward slashes.
        golden: The description that people agreed on; None if it is not at hand.

    Raises:
        EvaluationError: A path that leaves the folder, or an empty text.

    Example:
        >>> ToDescribe("00001.jpg", "A little dark.").golden
        'A little dark.'
    """

    image: str
    golden: str | None = None

    def __post_init__(self) -> None:
        check_image(self.image)
        if self.golden is not None and (not isinstance(self.golden, str) or not self.golden.strip()):
            raise EvaluationError.about("golden", self.golden, "a non-empty text")


def read_lldescribe(
    folder: PathLike, golden: PathLike | None = None, *, refused: list[str] | None = None
) -> list[ToDescribe]:
    """The pictures of a folder, with their golden descriptions if there are any.

    Args:
        folder: The pictures, also in folders below it; hidden files are not read.
        golden: JSON list of `{"img_path", "golden"}`; `image` and `description` are read as well. A picture that it
            does not name has no golden text.
        refused: A list that takes the rows that cannot be used, which leaves them out; default: they are an error.

    Returns:
        One `ToDescribe` for each picture, in the order of their names.

    Raises:
        EvaluationError: No pictures, or rows that cannot be used; the message names them.

    Example:
        >>> read_lldescribe("LLDescribe-QBench/images")[0].image  # doctest: +SKIP
        '00001.jpg'
    """
    names = _pictures(Path(folder))
    texts = {} if golden is None else _golden(Path(golden), frozenset(names), refused)
    return [ToDescribe(name, texts.get(name)) for name in names]


def _pictures(folder: Path) -> list[str]:
    from ..images.suffixes import SUFFIXES

    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in files if not path.name.startswith("."))
    if not names:
        hint = "Get LLDescribe from huggingface.co/datasets/nanyangtu/LLDescribe-QBench."
        raise EvaluationError.about("folder", str(folder), "a folder with pictures", hint)
    return names


def _golden(path: Path, names: frozenset[str], refused: list[str] | None) -> dict[str, str]:
    texts: dict[str, str] = {}
    reasons = []
    rows = read_json_list(path)
    for place, fields in enumerate(rows):
        try:
            image, text = _row(fields, names)
            if texts.setdefault(image, text) != text:
                raise EvaluationError(f"{image!r} has two golden texts")
        except EvaluationError as error:  # noqa: PERF203
            reasons.append(f"row {place}: {str(error).rstrip('.')}")
    refuse(path, reasons, len(rows), refused=refused)
    return texts


def _row(fields: Any, names: frozenset[str]) -> tuple[str, str]:
    if not isinstance(fields, Mapping):
        raise EvaluationError(f"it is {shorten(fields)}, expected an object")
    image = next((fields[key] for key in _IMAGE if key in fields), None)
    text = next((fields[key] for key in _GOLDEN if key in fields), None)
    one = ToDescribe(image if isinstance(image, str) else "", "" if text is None else text)
    if one.image not in names:
        raise EvaluationError(f"{one.image!r} is none of the pictures")
    return one.image, one.golden or ""
