"""Which images a list names, whatever kind of list it is: what training must not see is read with these. Thin shell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qsit_metric.errors import shorten
from qsit_metric.evaluation import FORMATS, read_llvisionqa, read_scores
from qsit_metric.evaluation.errors import EvaluationError, counted
from qsit_metric.evaluation.manifest import check_image

from ..errors import DataError
from .rows import read_elements

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
_SHOWN = 5
_HEAD = 65536


def images_in(path: Path) -> tuple[str, ...]:
    """The images that a list names.

    Args:
        path: A folder of images; a JSON list or JSON Lines whose elements are paths or have `image` or `img_path`
            (LLaVA lists, Q-Bench's and Q-Align's test lists, LLVisionQA); a label file that `read_scores` knows; a
            parquet file of Q-Bench-HF; or a text file with one path per line.

    Returns:
        Each image once, in order.

    Raises:
        DataError: Nothing is there, or an element names no image: a list that is read in part protects in part.
        EvaluationError: A label file with rows that cannot be used.
    """
    if path.is_dir():
        found = [file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if _is_image(file)]
        if not found:
            raise DataError.about("exclude", str(path), f"a folder with images ({', '.join(sorted(SUFFIXES))})")
        return tuple(found)
    head = _head(path)
    if head.startswith(b"PAR1"):
        return tuple(dict.fromkeys(question.image for question in read_llvisionqa(path)))
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{", b""):
        return _whole(path, [(f"row {place}", _image(fields)) for place, fields in enumerate(read_elements(path))])
    if path.suffix.lower() not in (".txt", ".lst") or any(one.fits(head) for one in FORMATS.values()):
        return tuple(dict.fromkeys(item.image for item in read_scores(path).items))
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return _whole(path, [(f"line {place}", line.strip()) for place, line in enumerate(lines, 1) if line.strip()])


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.is_file()


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise DataError.about("exclude", str(path), "a readable list", f"The system says: {error}.") from error


def _image(fields: object) -> object:
    if not isinstance(fields, Mapping):
        return fields
    image = fields.get("image", fields.get("img_path"))
    return image[0] if isinstance(image, list) and len(image) == 1 else image


def _whole(path: Path, found: list[tuple[str, object]]) -> tuple[str, ...]:
    reasons = [f"{where} has {shorten(image)}" for where, image in found if not _usable(image)]
    if reasons:
        shown = "; ".join(reasons[:_SHOWN]) + (" ..." if len(reasons) > _SHOWN else "")
        raise DataError(
            f"`{path}`: {len(reasons)} of {counted(len(found), 'element')} name no image file: {shown}. "
            "Repair them: an image that is not read here cannot be kept out of training."
        )
    return tuple(dict.fromkeys(str(image) for _, image in found))


def _usable(image: object) -> bool:
    try:
        check_image(image)
    except EvaluationError:
        return False
    return bool(Path(str(image)).suffix)
