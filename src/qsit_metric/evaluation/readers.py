"""Readers of the IQA sets' label files. Which format a file has is told by its content, not by its name.

Formats: the sets' own files as their publishers ship them; Q-Bench's `a3_iqa_databases/jsons/` at f19783e; Q-Align's
`playground/data/test_jsons/` at 14dfdff and Q-SiT's `training_jsons/` at 4e4d1df (LLaVA conversations).

CSIQ and LIVE (release 2) label by differences to the undistorted image, so that lower is better. They are turned round:
`Item.mos` is the best DMOS of the nominal scale minus the label (1 - DMOS, 100 - DMOS). Their layouts are those that
the common readers have (IQA-PyTorch's `scripts/process_csiq.py` and `process_live.py`, hyperIQA's `folders.py`): the
archives themselves were not at hand.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import EvaluationError, shorten
from ..files import PathLike
from ..levels import LEVELS
from .manifest import FILES, Item, Manifest, Row, json_row, manifest_rows, missing_package, read_json_list, usable_items

_TID_LINE = re.compile(rb"\s*[-+.\deE]+\s+\S+\s*(\n|$)")
_HEAD = 65536
_ZIP = b"PK\x03\x04"
_SHEETS = "xl/workbook.xml"

CSIQ_FOLDERS = ("awgn", "blur", "contrast", "fnoise", "jpeg", "jpeg2000")
_CSIQ_SHEET = "all_by_image"
_CSIQ_COLUMNS = ("image", "dst_type", "dst_lev", "dmos")
_CSIQ_TOKENS = {
    "noise": "AWGN", "blur": "BLUR", "contrast": "contrast", "fnoise": "fnoise", "jpeg": "JPEG",
    "jpeg 2000": "jpeg2000",
}  # fmt: skip
_LIVE_FOLDERS = (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))
_LIVEC_TAUGHT = 7  # its first images taught the raters
_FROM_ID = "gt_score (or -> in id)"


@dataclass(frozen=True)
class Format:
    """Format of label files.

    Attributes:
        name: What `read_scores(format=...)` takes.
        title: What it is, for messages.
        fits: Whether the first bytes of a file are of this kind.
        rows: Path -> the rows of the file.
        image: What the file calls its images, for messages.
        mos: What the file calls its scores, for messages.
        best: See `usable_items`; None unless the file's scores are differences.
    """

    name: str
    title: str
    fits: Callable[[bytes], bool]
    rows: Callable[[Path], Iterator[Row]]
    image: str = "image"
    mos: str = "mos"
    best: float | None = None

    def read(self, path: Path, refused: list[str] | None = None) -> tuple[Item, ...]:
        """The items of a file of this kind.

        Raises:
            EvaluationError: Another kind of file, or unusable rows (with `refused`, which takes them: no others).
            DependencyError: The format needs a package that is not installed.
        """
        rows = self.rows(path)
        return usable_items(path, rows, image=self.image, mos=self.mos, best=self.best, refused=refused)


def read_scores(
    path: PathLike,
    format: str | None = None,
    *,
    root: PathLike | None = None,
    name: str | None = None,
    refused: list[str] | None = None,
) -> Manifest:
    """Read one label file.

    Args:
        path: The file. LIVE Challenge has two: pass AllMOS_release.mat, with AllImages_release.mat beside it.
        format: A key of `FORMATS`; default: told from the content.
        root: Folder of the images; default: the file's own.
        name: Name of the data set; default: the file's, without suffix.
        refused: A list that takes the rows that cannot be used, which leaves them out; default: they are an error.

    Returns:
        The items in the file's order, no row left out but those in `refused`.

    Raises:
        EvaluationError: No such file, an unknown format, or unusable rows (with `refused`: no others); it names them.
        DependencyError: The format needs a package that is not installed.

    Example:
        >>> read_scores("labels.csv", root="images").items[0]  # doctest: +SKIP
        Item(image='a.jpg', mos=3.5, id='a.jpg', split='', level=None)
    """
    source = Path(path)
    items = _format_of(source, format).read(source, refused)
    return Manifest(name or source.stem, items, source.parent if root is None else root)


def _format_of(path: Path, name: str | None) -> Format:
    """The format of this name, or the one that the file's content tells."""
    if name is not None:
        if name not in FORMATS:
            raise EvaluationError.about("format", name, f"one of {', '.join(FORMATS)}")
        return FORMATS[name]
    first = head(path)
    for one in FORMATS.values():
        if one.fits(first):
            return one
    titles = "; ".join(f"{one.name} ({one.title})" for one in FORMATS.values())
    raise EvaluationError.about("path", str(path), f"a label file in a known format: {titles}")


def _spaq(path: Path) -> Iterator[Row]:
    """SPAQ's "MOS and Image attribute scores.xlsx": columns `Image name` and `MOS` of the first sheet."""
    table = excel_rows(path)
    header = [str(cell).strip() for cell in table[0]] if table else []
    check_columns(path, header, ("Image name", "MOS"))
    image, mos = header.index("Image name"), header.index("MOS")
    for place, cells in enumerate(table[1:], start=2):
        if any(cell is not None for cell in cells):  # Excel keeps formatted but empty rows at the end
            full = [*cells, *[None] * (len(header) - len(cells))]
            yield Row(f"row {place}", full[image], full[mos])


def _livec(path: Path) -> Iterator[Row]:
    """LIVE Challenge's two .mat files; the images that taught the raters have the split "training"."""
    images = matlab_variable(path.with_name("AllImages_release.mat"), "AllImages_release")
    scores = matlab_variable(path.with_name("AllMOS_release.mat"), "AllMOS_release")
    if len(images) != len(scores):
        found = f"<{len(images)} images and {len(scores)} scores>"
        raise EvaluationError.about("path", found, f"as many scores as images in {path.parent}")
    for place, (image, score) in enumerate(zip(images, scores, strict=True)):
        split = "training" if place < _LIVEC_TAUGHT else "test"
        yield Row(f"row {place}", matlab_scalar(image), matlab_scalar(score), split=split)


def _tid2013(path: Path) -> Iterator[Row]:
    """TID2013's "mos_with_names.txt": lines of a score and a file name."""
    for place, line in enumerate(FILES.text(path).splitlines(), start=1):
        parts = line.split()
        if len(parts) == 2:
            yield Row(f"line {place}", parts[1], parts[0])
        elif parts:
            yield Row(f"line {place}", reason=f"{shorten(line)} is no score and name")


def _conversations(path: Path) -> Iterator[Row]:
    """Q-Align's and the authors' lists of conversations.

    The image stands under `image` or `img_path`; the score under `gt_score`, else behind `->` in `id`, as the authors'
    evaluation reads it. The level word that ends the answer becomes `Item.level`.
    """
    for place, fields in enumerate(read_json_list(path)):
        yield _conversation(place, fields)


def _conversation(place: int, fields: Any) -> Row:
    if isinstance(fields, Mapping) and "gt_score" not in fields and "->" in str(fields.get("id")):
        fields = {**fields, "gt_score": str(fields["id"]).rpartition("->")[2]}
    row = json_row(place, fields, ("image", "img_path"))
    if row.reason:
        return row._replace(reason=row.reason.replace("gt_score", _FROM_ID))
    said = fields.get("conversations")
    answer = said[-1].get("value") if isinstance(said, list) and said and isinstance(said[-1], Mapping) else None
    word = answer.rstrip(" .\n").rpartition(" ")[2].lower() if isinstance(answer, str) else ""
    if word not in LEVELS:
        return row._replace(reason=f"the answer {shorten(answer)} ends in none of {', '.join(LEVELS)}")
    return row._replace(level=word)


def _csiq(path: Path) -> Iterator[Row]:
    """CSIQ's "csiq.DMOS.xlsx" (sheet all_by_image), or a csv with the columns `dist_name` and `dmos` in its place.

    Images are named by their file names ("1600.AWGN.1.png"), without the folder of the distortion.
    """
    if excel_with()(head(path)):
        yield from _csiq_excel(path)
        return
    for where, fields, reason in csv_rows(path, ("dist_name", "dmos")):
        yield Row(where, PurePosixPath(str(fields["dist_name"] or "")).name, fields["dmos"], reason=reason)


def _csiq_excel(path: Path) -> Iterator[Row]:
    """The table begins somewhere below and right of the corner."""
    table = excel_rows(path, _CSIQ_SHEET)
    start = next((place for place, row in enumerate(table) if set(_CSIQ_COLUMNS) <= set(row)), None)
    top = table[start] if start is not None else table[0] if table else []
    check_columns(path, [str(cell) for cell in top if cell is not None], _CSIQ_COLUMNS)
    columns = [top.index(name) for name in _CSIQ_COLUMNS]
    for place, row in enumerate(table[(start or 0) + 1 :], start=(start or 0) + 2):
        full = [*row, *[None] * (len(top) - len(row))]
        reference, kind, level, dmos = (full[column] for column in columns)
        if (reference, kind, level, dmos) != (None, None, None, None):
            image, reason = _csiq_name(reference, kind, level)
            yield Row(f"row {place}", image, dmos, reason=reason)


def _csiq_name(reference: Any, kind: Any, level: Any) -> tuple[str | None, str]:
    """The image's file name, or why there is none; Excel holds "1600" and the level as numbers."""
    token = _CSIQ_TOKENS.get(str(kind).strip().lower())
    texts = [f"{cell:g}" if isinstance(cell, (int, float)) else str(cell or "").strip() for cell in (reference, level)]
    if token is None or not texts[0] or not re.fullmatch(r"[1-9]", texts[1]):
        known = ", ".join(_CSIQ_TOKENS)
        return None, f"image {reference!r}, dst_type {kind!r}, dst_lev {level!r}: expected a name, one of {known}, 1..5"
    return f"{texts[0]}.{token}.{texts[1]}.png", ""


def _live(path: Path) -> Iterator[Row]:
    """LIVE's "dmos_realigned.mat": scores of 982 images in the order jp2k, jpeg, wn, gblur, fastfading.

    Undistorted copies of the references (`orgs`), which readers leave out, have the split "reference", others "test".
    Other than 982 entries are refused: they would name other images.
    """
    names = [f"{folder}/img{place}.bmp" for folder, count in _LIVE_FOLDERS for place in range(1, count + 1)]
    scores, originals = (matlab_variable(path, key) for key in ("dmos_new", "orgs"))
    _check_length(path, "dmos_new and orgs", (scores, originals), len(names))
    beside = path.with_name("refnames_all.mat")
    if beside.is_file():
        _check_length(beside, "refnames_all", (matlab_variable(beside, "refnames_all"),), len(names))
    for place, (name, dmos, original) in enumerate(zip(names, scores, originals, strict=True)):
        split = "reference" if matlab_scalar(original) else "test"
        yield Row(f"row {place}", name, matlab_scalar(dmos), split=split)


def _check_length(path: Path, what: str, found: Sequence[Sequence[Any]], expected: int) -> None:
    if any(len(one) != expected for one in found):
        shown = f"<{' and '.join(str(len(one)) for one in found)} entries>"
        hint = "Places in the list are the images' names, so none may be missing."
        raise EvaluationError.about("path", shown, f"{expected} entries of {what} in {path}", hint)


def head(path: Path) -> bytes:
    """The first bytes of a file, by which its format is told; after those of an Excel file, its list of sheets.

    Raises:
        EvaluationError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = file.read(_HEAD).removeprefix(b"\xef\xbb\xbf")
        return first + _sheets(path) if first.startswith(_ZIP) else first
    except OSError as error:
        hint = f"The system says: {error.strerror or error}."
        raise EvaluationError.about("path", str(path), "a readable label file", hint) from error


def _sheets(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_SHEETS) as file:
            return file.read(_HEAD)
    except (zipfile.BadZipFile, KeyError, zlib.error, NotImplementedError):
        return b""  # whoever reads it whole will say what is wrong


def excel_with(sheet: str | None = None) -> Callable[[bytes], bool]:
    """Test of a file's head: an Excel file with a sheet of this name, or None: with any sheets."""
    named = re.compile(rb'\bname="%s"' % (sheet or "").encode())
    return lambda first: first.startswith(_ZIP) and (sheet is None or named.search(first) is not None)


def matlab_with(*variables: str) -> Callable[[bytes], bool]:
    """Test of a file's head: a MATLAB file whose first variable has one of these names; none given: any name."""
    named = re.compile("|".join(variables).encode())
    return lambda first: first.startswith(b"MATLAB") and named.search(_variable(first)) is not None


def _variable(first: bytes) -> bytes:
    """The beginning of the first variable, its name in it; the element's type before it is 15 if it is compressed."""
    if first[128:132].strip(b"\0") != b"\x0f":
        return first[136:392]
    try:
        return zlib.decompressobj().decompress(first[136:], 256)
    except zlib.error:
        return b""


def _columns(*names: str) -> Callable[[bytes], bool]:
    def fits(head: bytes) -> bool:
        line = head.splitlines()[0].decode("utf-8", "replace") if head.strip() else ""
        return set(names) <= set(next(csv.reader([line], skipinitialspace=True), ()))

    return fits


def _json_with(key: str) -> Callable[[bytes], bool]:
    def fits(head: bytes) -> bool:
        return head.lstrip().startswith(b"[") and _first_object(head.decode("utf-8", "ignore"), key)

    return fits


def _first_object(text: str, key: str) -> bool:
    """Whether the first element of a JSON list is an object with this key; the text may end amid the list."""
    try:
        first, _ = json.JSONDecoder().raw_decode(text.lstrip()[1:].lstrip())
    except ValueError:
        return False
    return isinstance(first, Mapping) and key in first


def check_columns(path: Path, found: Sequence[str], needed: Iterable[str]) -> None:
    """Refuse a table without the needed columns.

    Raises:
        EvaluationError: It names those that are not there, and those that are.
    """
    if absent := [name for name in needed if name not in found]:
        hint = f"It has {', '.join(map(str, found)) or 'no columns'}."
        raise EvaluationError.about("path", str(path), f"a table with the columns {', '.join(absent)}", hint)


def csv_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Rows of a csv file that has the needed columns: the line, its fields by column, and what is wrong with it.

    Raises:
        EvaluationError: No csv file, or no such columns.
    """
    reader = csv.DictReader(io.StringIO(FILES.text(path)), strict=True, skipinitialspace=True)
    try:
        check_columns(path, reader.fieldnames or (), needed)
        for fields in reader:
            whole = None not in fields and None not in fields.values()
            yield f"line {reader.line_num}", fields, "" if whole else f"not {len(reader.fieldnames or ())} fields"
    except csv.Error as error:
        raise EvaluationError.about(
            "path", str(path), "a csv file", f"After line {reader.line_num}: {error}."
        ) from error


def excel_rows(path: Path, sheet: str | None = None) -> list[list[Any]]:
    """The cells of one sheet of an Excel file, row by row; default: of the first sheet.

    Raises:
        DependencyError: openpyxl is not installed.
        EvaluationError: No Excel file, or one without this sheet.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise missing_package("openpyxl", path) from error
    try:
        with path.open("rb") as file:  # a path would have to end in .xlsx
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            names = book.sheetnames
            chosen = sheet if sheet in names else names[0] if sheet is None else None
            rows = [] if chosen is None else [list(row) for row in book[chosen].iter_rows(values_only=True)]
    except Exception as error:  # openpyxl lets out whatever its parsers raise
        raise EvaluationError.about("path", str(path), "an Excel file (.xlsx)", f"{error}.") from error
    if chosen is None:
        hint = f"It has {', '.join(names)}."
        raise EvaluationError.about("path", str(path), f"an Excel file with the sheet {sheet}", hint)
    return rows


def matlab_variable(path: Path, key: str) -> list[Any]:
    """The elements of one variable of a MATLAB file.

    Raises:
        EvaluationError: No such file, or no such variable in it.
    """
    import scipy.io

    try:
        with path.open("rb") as file:
            return list(scipy.io.loadmat(file)[key].ravel())
    except Exception as error:  # scipy lets out whatever a file that was cut leads to, such as an IndexError
        hint = f"{type(error).__name__}: {error}."
        raise EvaluationError.about("path", str(path), f"a MATLAB file with the variable {key}", hint) from error


def matlab_scalar(value: Any) -> Any:
    """The scalar in a MATLAB cell: strings come as arrays of one."""
    while getattr(value, "ndim", 0) and value.size == 1:
        value = value.ravel()[0]
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value


def _table(
    image: str, mos: str, split: Callable[[Mapping[str, str]], str] | None = None
) -> Callable[[Path], Iterator[Row]]:
    """Reader of a csv file with named columns, also `id` and `split` if there are any.

    Args:
        image: Column of the image's path.
        mos: Column of the score.
        split: Tells a row's split; default: column `split`.
    """

    def rows(path: Path) -> Iterator[Row]:
        for where, fields, reason in csv_rows(path, (image, mos)):
            of = split(fields) if split and not reason else fields.get("split")
            yield Row(where, fields[image], fields[mos], fields.get("id"), of, None, reason)

    return rows


def _kadid_split(fields: Mapping[str, str]) -> str:
    """Q-Align's test part of KADID-10k: the references I66 to I81, 2000 pictures."""
    reference = re.fullmatch(r"[iI](\d+)\.png", fields.get("ref_img") or "")
    return "test" if reference and 66 <= int(reference[1]) <= 81 else "train"


def _csv(
    name: str, columns: Sequence[str], image: str, mos: str, split: Callable[[Mapping[str, str]], str] | None = None
) -> Format:
    """The format of a csv file that is told by its columns."""
    return Format(name, f"csv with {', '.join(columns)}", _columns(*columns), _table(image, mos, split), image, mos)


_is_csiq, _is_live = excel_with(_CSIQ_SHEET), matlab_with("dmos_new", "dmos_std", "orgs")

# In the order in which they are tried.
_FORMATS = (
    Format(
        "spaq", "SPAQ's Excel file", lambda first: excel_with()(first) and not _is_csiq(first), _spaq,
        image="Image name", mos="MOS",
    ),
    Format(
        "livec", "LIVE Challenge's AllMOS_release.mat", lambda first: matlab_with()(first) and not _is_live(first),
        _livec, image="AllImages_release", mos="AllMOS_release",
    ),
    Format("csiq", "CSIQ's Excel file", _is_csiq, _csiq, mos="dmos", best=1.0),
    Format("live", "LIVE's dmos_realigned.mat", _is_live, _live, mos="dmos_new", best=100.0),
    Format(
        "conversations", "JSON list with `conversations`", _json_with("conversations"), _conversations, mos=_FROM_ID,
    ),
    Format(
        "qbench", "JSON list of img_path, gt_score", _json_with("img_path"), manifest_rows,
        image="img_path", mos="gt_score",
    ),
    _csv("koniq", ("image_name", "MOS_zscore"), "image_name", "MOS_zscore"),
    _csv("agiqa", ("name", "mos_quality"), "name", "mos_quality"),
    _csv("kadid", ("dist_img", "ref_img", "dmos"), "dist_img", "dmos", _kadid_split),
    _csv("csv", ("image", "mos"), "image", "mos"),
    Format("tid2013", "lines of score and name", lambda first: bool(_TID_LINE.match(first)), _tid2013),
)  # fmt: skip

FORMATS: Mapping[str, Format] = {one.name: one for one in _FORMATS}
