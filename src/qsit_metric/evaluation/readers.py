"""Label files of the IQA sets -> a manifest. Which format a file has is told by its content, not by its name.

Formats: the sets' own files as their publishers ship them; Q-Bench's `a3_iqa_databases/jsons/` at f19783e; Q-Align's
`playground/data/test_jsons/` at 14dfdff and Q-SiT's `training_jsons/` at 4e4d1df (LLaVA conversations).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import shorten
from ..levels import LEVELS
from .errors import EvaluationError
from .files import FILES, PathLike, read_json_list
from .manifest import Item, Manifest, Rows, entry_of, manifest_items
from .readers_dmos import CSIQ_SHEET, read_csiq, read_live
from .sheets import check_columns, csv_rows, excel_rows, excel_with, head, matlab_scalar, matlab_variable, matlab_with

_Read: TypeAlias = "Callable[[Path, list[str] | None], tuple[Item, ...]]"
_TID_LINE = re.compile(rb"\s*[-+.\deE]+\s+\S+\s*(\n|$)")


@dataclass(frozen=True)
class Format:
    """One kind of label file.

    Attributes:
        name: What `read_scores(format=...)` takes.
        title: What it is, for messages.
        fits: Whether the first bytes of a file are of this kind.
        read: Path, and a list that takes the rows that cannot be used or None -> items.
    """

    name: str
    title: str
    fits: Callable[[bytes], bool]
    read: _Read


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
    if format is None:
        first = head(source)
        chosen = next((one for one in FORMATS.values() if one.fits(first)), None)
        if chosen is None:
            titles = "; ".join(f"{one.name} ({one.title})" for one in FORMATS.values())
            raise EvaluationError.about("path", str(source), f"a label file in a known format: {titles}")
    elif format in FORMATS:
        chosen = FORMATS[format]
    else:
        raise EvaluationError.about("format", format, f"one of {', '.join(FORMATS)}")
    items = chosen.read(source, refused)
    return Manifest(name or source.stem, items, source.parent if root is None else root)


def read_table(
    path: Path,
    image: str,
    mos: str,
    split: Callable[[Mapping[str, str]], str] | None = None,
    refused: list[str] | None = None,
) -> tuple[Item, ...]:
    """Items of a csv file with named columns; columns `id` and `split` are read if there are any.

    Args:
        path: The file, comma-separated, with a header.
        image: Column of the image's path.
        mos: Column of the score.
        split: Tells a row's split; default: column `split`.
        refused: See `read_scores`.

    Raises:
        EvaluationError: No such columns, or rows that cannot be used.
    """
    rows = Rows(str(path), image, mos, refused)
    for where, fields, reason in csv_rows(path, (image, mos)):
        of = split(fields) if split and not reason else fields.get("split")
        rows.add(where, fields[image], fields[mos], fields.get("id"), of, None, reason)
    return rows.items()


def read_spaq(path: Path, refused: list[str] | None = None) -> tuple[Item, ...]:
    """SPAQ's "MOS and Image attribute scores.xlsx": columns `Image name` and `MOS` of the first sheet.

    Raises:
        DependencyError: openpyxl is not installed.
        EvaluationError: Not such a file.
    """
    table = excel_rows(path)
    header = [str(cell).strip() for cell in table[0]] if table else []
    check_columns(path, header, ("Image name", "MOS"))
    image, mos = header.index("Image name"), header.index("MOS")
    rows = Rows(str(path), "Image name", "MOS", refused)
    for place, cells in enumerate(table[1:], start=2):
        if any(cell is not None for cell in cells):  # Excel keeps formatted but empty rows at the end
            full = [*cells, *[None] * (len(header) - len(cells))]
            rows.add(f"row {place}", full[image], full[mos])
    return rows.items()


def read_livec(path: Path, refused: list[str] | None = None) -> tuple[Item, ...]:
    """LIVE Challenge's two .mat files; the first 7 images, which taught the raters, have the split "training".

    Raises:
        EvaluationError: One of the files is missing or is not what it should be, or their lengths differ.
    """
    images = matlab_variable(path.with_name("AllImages_release.mat"), "AllImages_release")
    scores = matlab_variable(path.with_name("AllMOS_release.mat"), "AllMOS_release")
    if len(images) != len(scores):
        found = f"<{len(images)} images and {len(scores)} scores>"
        raise EvaluationError.about("path", found, f"as many scores as images in {path.parent}")
    rows = Rows(str(path), "AllImages_release", "AllMOS_release", refused)
    for place, (image, score) in enumerate(zip(images, scores, strict=True)):
        rows.add(f"row {place}", matlab_scalar(image), matlab_scalar(score), split="training" if place < 7 else "test")
    return rows.items()


def read_tid2013(path: Path, refused: list[str] | None = None) -> tuple[Item, ...]:
    """TID2013's "mos_with_names.txt": lines of a score and a file name.

    Raises:
        EvaluationError: Lines that cannot be used.
    """
    rows = Rows(str(path), refused=refused)
    for place, line in enumerate(FILES.text(path).splitlines(), start=1):
        parts = line.split()
        if len(parts) == 2:
            rows.add(f"line {place}", parts[1], parts[0])
        elif parts:
            rows.add(f"line {place}", None, None, reason=f"{shorten(line)} is no score and name")
    return rows.items()


def read_qbench(path: Path, refused: list[str] | None = None) -> tuple[Item, ...]:
    """Our manifests and Q-Bench's: see `Manifest.load`."""
    return manifest_items(path, refused)


def read_conversations(path: Path, refused: list[str] | None = None) -> tuple[Item, ...]:
    """Q-Align's and the authors' lists of conversations.

    The image stands under `image` or `img_path`; the score under `gt_score`, else behind `->` in `id`, as the authors'
    evaluation reads it. The level word that ends the answer becomes `Item.level`.

    Raises:
        EvaluationError: Rows that cannot be used, among them those whose word is no level.
    """
    rows = Rows(str(path), "image", "gt_score (or -> in id)", refused)
    for place, fields in enumerate(read_json_list(path)):
        rows.add(f"row {place}", **_conversation(fields))
    return rows.items()


def _conversation(fields: Any) -> dict[str, Any]:
    if isinstance(fields, Mapping) and "gt_score" not in fields and "->" in str(fields.get("id")):
        fields = {**fields, "gt_score": str(fields["id"]).rpartition("->")[2]}
    entry = entry_of(fields, ("image", "img_path"), "gt_score")
    if "reason" in entry:
        return {**entry, "reason": entry["reason"].replace("gt_score", "gt_score (or -> in id)")}
    said = fields.get("conversations")
    answer = said[-1].get("value") if isinstance(said, list) and said and isinstance(said[-1], Mapping) else None
    word = answer.rstrip(" .\n").rpartition(" ")[2].lower() if isinstance(answer, str) else ""
    if word not in LEVELS:
        return {**entry, "reason": f"the answer {shorten(answer)} ends in none of {', '.join(LEVELS)}"}
    return {**entry, "level": word}


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


def _csv(image: str, mos: str, split: Callable[[Mapping[str, str]], str] | None = None) -> _Read:
    return lambda path, refused: read_table(path, image, mos, split, refused)


def kadid_split(fields: Mapping[str, str]) -> str:
    """Q-Align's test part of KADID-10k: the references I66 to I81, 2000 pictures."""
    reference = re.fullmatch(r"[iI](\d+)\.png", fields.get("ref_img") or "")
    return "test" if reference and 66 <= int(reference[1]) <= 81 else "train"


def _formats() -> Iterator[Format]:
    csiq, live = excel_with(CSIQ_SHEET), matlab_with("dmos_new", "dmos_std", "orgs")
    yield Format("spaq", "SPAQ's Excel file", lambda head: excel_with()(head) and not csiq(head), read_spaq)
    challenge = "LIVE Challenge's AllMOS_release.mat"
    yield Format("livec", challenge, lambda head: matlab_with()(head) and not live(head), read_livec)
    yield Format("csiq", "CSIQ's Excel file", csiq, read_csiq)
    yield Format("live", "LIVE's dmos_realigned.mat", live, read_live)
    yield Format("conversations", "JSON list with `conversations`", _json_with("conversations"), read_conversations)
    yield Format("qbench", "JSON list of img_path, gt_score", _json_with("img_path"), read_qbench)
    koniq, agiqa = ("image_name", "MOS_zscore"), ("name", "mos_quality")
    yield Format("koniq", "csv with image_name, MOS_zscore", _columns(*koniq), _csv(*koniq))
    yield Format("agiqa", "csv with name, mos_quality", _columns(*agiqa), _csv(*agiqa))
    kadid = ("dist_img", "ref_img", "dmos")
    yield Format("kadid", f"csv with {', '.join(kadid)}", _columns(*kadid), _csv("dist_img", "dmos", kadid_split))
    yield Format("csv", "csv with image, mos", _columns("image", "mos"), _csv("image", "mos"))
    yield Format("tid2013", "lines of score and name", lambda head: bool(_TID_LINE.match(head)), read_tid2013)


FORMATS: Mapping[str, Format] = {one.name: one for one in _formats()}
