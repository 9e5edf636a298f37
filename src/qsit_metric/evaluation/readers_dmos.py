"""CSIQ and LIVE (release 2): sets whose labels are differences to the undistorted image, so that lower is better.

They are turned round here: `Item.mos` is the best DMOS of the nominal scale minus the label (1 - DMOS, 100 - DMOS), so
higher is better as everywhere. Layouts as the common readers have them (IQA-PyTorch's `scripts/process_csiq.py` and
`process_live.py`, hyperIQA's `folders.py`): the archives themselves were not at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import EvaluationError
from .manifest import Item, Rows, number
from .sheets import check_columns, csv_rows, excel_rows, excel_with, head, matlab_scalar, matlab_variable

CSIQ_SHEET = "all_by_image"
CSIQ_COLUMNS = ("image", "dst_type", "dst_lev", "dmos")
CSIQ_FOLDERS = ("awgn", "blur", "contrast", "fnoise", "jpeg", "jpeg2000")
LIVE_FOLDERS = (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))
_TOKENS = {
    "noise": "AWGN", "blur": "BLUR", "contrast": "contrast", "fnoise": "fnoise", "jpeg": "JPEG",
    "jpeg 2000": "jpeg2000",
}  # fmt: skip
_CSIQ_BEST, _LIVE_BEST = 1.0, 100.0
_REFERENCE = "reference"


def read_csiq(path: Path, refused: list[str] | None = None) -> tuple[Item, ...]:
    """CSIQ's "csiq.DMOS.xlsx" (sheet all_by_image), or a csv with the columns `dist_name` and `dmos` in its place.

    Images are named by their file names ("1600.AWGN.1.png"), without the folder of the distortion.

    Raises:
        DependencyError: openpyxl is not installed, and the file is an Excel file.
        EvaluationError: Not such a file, or rows that cannot be used.
    """
    rows = Rows(str(path), "image", "dmos", refused)
    named = _csiq_excel(path) if excel_with()(head(path)) else _csiq_csv(path)
    for where, image, dmos, reason in named:
        _add(rows, where, image, dmos, _CSIQ_BEST, reason=reason)
    return rows.items()


def _csiq_excel(path: Path) -> Iterator[tuple[str, Any, Any, str]]:
    """Place, image, DMOS and what is wrong with the row; the table begins somewhere below and right of the corner."""
    table = excel_rows(path, CSIQ_SHEET)
    start = next((place for place, row in enumerate(table) if set(CSIQ_COLUMNS) <= set(row)), None)
    top = table[start] if start is not None else table[0] if table else []
    check_columns(path, [str(cell) for cell in top if cell is not None], CSIQ_COLUMNS)
    columns = [top.index(name) for name in CSIQ_COLUMNS]
    for place, row in enumerate(table[(start or 0) + 1 :], start=(start or 0) + 2):
        full = [*row, *[None] * (len(top) - len(row))]
        reference, kind, level, dmos = (full[column] for column in columns)
        if (reference, kind, level, dmos) != (None, None, None, None):
            image, reason = _csiq_name(reference, kind, level)
            yield f"row {place}", image, dmos, reason


def _csiq_name(reference: Any, kind: Any, level: Any) -> tuple[str | None, str]:
    """The image's file name, or why there is none; Excel holds "1600" and the level as numbers."""
    token = _TOKENS.get(str(kind).strip().lower())
    texts = [f"{cell:g}" if isinstance(cell, (int, float)) else str(cell or "").strip() for cell in (reference, level)]
    if token is None or not texts[0] or not re.fullmatch(r"[1-9]", texts[1]):
        known = ", ".join(_TOKENS)
        return None, f"image {reference!r}, dst_type {kind!r}, dst_lev {level!r}: expected a name, one of {known}, 1..5"
    return f"{texts[0]}.{token}.{texts[1]}.png", ""


def _csiq_csv(path: Path) -> Iterator[tuple[str, Any, Any, str]]:
    for where, fields, reason in csv_rows(path, ("dist_name", "dmos")):
        yield where, PurePosixPath(str(fields["dist_name"] or "")).name, fields["dmos"], reason


def read_live(path: Path, refused: list[str] | None = None) -> tuple[Item, ...]:
    """LIVE's "dmos_realigned.mat": scores of 982 images in the order jp2k, jpeg, wn, gblur, fastfading.

    Undistorted copies of the references (`orgs`), which readers leave out, have the split "reference", others "test".

    Raises:
        EvaluationError: Not such a file, other than 982 entries (which would name other images), or unusable rows.
    """
    names = [f"{folder}/img{place}.bmp" for folder, count in LIVE_FOLDERS for place in range(1, count + 1)]
    scores, originals = (matlab_variable(path, key) for key in ("dmos_new", "orgs"))
    _check_length(path, "dmos_new and orgs", (scores, originals), len(names))
    beside = path.with_name("refnames_all.mat")
    if beside.is_file():
        _check_length(beside, "refnames_all", (matlab_variable(beside, "refnames_all"),), len(names))
    rows = Rows(str(path), "image", "dmos_new", refused)
    for place, (name, dmos, original) in enumerate(zip(names, scores, originals, strict=True)):
        split = _REFERENCE if matlab_scalar(original) else "test"
        _add(rows, f"row {place}", name, matlab_scalar(dmos), _LIVE_BEST, split)
    return rows.items()


def _check_length(path: Path, what: str, found: Sequence[Sequence[Any]], expected: int) -> None:
    if any(len(one) != expected for one in found):
        shown = f"<{' and '.join(str(len(one)) for one in found)} entries>"
        hint = "Places in the list are the images' names, so none may be missing."
        raise EvaluationError.about("path", shown, f"{expected} entries of {what} in {path}", hint)


def _add(rows: Rows, where: str, image: Any, dmos: Any, best: float, split: str = "", reason: str = "") -> None:
    try:
        mos: Any = best - number(dmos, "dmos")
    except EvaluationError:
        mos = dmos  # refused there, with the row's name
    rows.add(where, image, mos, split=split, reason=reason)
