"""Formats of label files, told by their content: the IQA sets' own, and those in which lists of them are passed on.

The sets' own files are those that their publishers ship. Lists: Q-Bench's `a3_iqa_databases/jsons/` at f19783e;
Q-Align's `playground/data/test_jsons/` at 14dfdff and Q-SiT's `training_jsons/` at 4e4d1df (LLaVA conversations);
IQA-PyTorch's `meta_info_*.csv`, by its `scripts/process_*.py` at 01ae427.

CSIQ and LIVE (release 2) label by differences to the undistorted image, so that lower is better. They are turned round:
`Item.mos` is the best DMOS of the nominal scale minus the label (1 - DMOS, 100 - DMOS). Their layouts are those that
the common readers have (IQA-PyTorch's `scripts/process_csiq.py` and `process_live.py`, hyperIQA's `folders.py`): the
archives themselves were not at hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..errors import EvaluationError, shorten
from .manifest import Row, json_row
from .tables import Column, Source, Table, is_number, scalar

CSIQ_FOLDERS = ("awgn", "blur", "contrast", "fnoise", "jpeg", "jpeg2000")
_CSIQ_SHEET = "all_by_image"
_CSIQ_COLUMNS = ("image", "dst_type", "dst_lev", "dmos")
_CSIQ_TOKENS = {
    "noise": "AWGN", "blur": "BLUR", "contrast": "contrast", "fnoise": "fnoise", "jpeg": "JPEG",
    "jpeg 2000": "jpeg2000",
}  # fmt: skip
_LIVE_FOLDERS = (("jp2k", 227), ("jpeg", 233), ("wn", 174), ("gblur", 174), ("fastfading", 174))
_LIVEC_TAUGHT = 7  # its first images taught the raters
_AIGCIQA2023 = 2400
_CID_SHEET = "CID2013 MOS"
_CID_NAME = re.compile(r"IS_(I|II|III|IV|V|VI)_C(\d\d)_D\d\d")
_ROMAN = ("I", "II", "III", "IV", "V", "VI")
_PIPAL_NAME = re.compile(r"A\d{4}_\d\d_\d\d\.(bmp|png)", re.IGNORECASE)
_TID_NAME = re.compile(r"i\d\d_\d\d_\d\.(bmp|png)", re.IGNORECASE)
_NUMBER = r"(?P<score>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_SCORE_FIRST = re.compile(rf"\s*{_NUMBER}(?:\s*[,;]\s*|\s+)(?P<name>\S.*?)\s*")
_NAME_FIRST = re.compile(rf"\s*(?P<name>\S.*?)(?:\s*[,;]\s*|\s+){_NUMBER}\s*")
FROM_ID = "gt_score (or -> in id)"
IMAGE_KEYS = ("image", "img_path")
SPLIT_NAMES = {"training": "train", "validation": "val"}
_PYIQA_IMAGES = ("img_name", "dist_name")
_PYIQA_SPLITS = {"0": "train", "1": "val", "2": "test"}
_GROUPS = ("group", "ref_img", "ref_name", "ref_img_path", "hq_name")


@dataclass(frozen=True)
class Format:
    """Format of label files.

    Attributes:
        name: What `read_scores(format=...)` takes.
        title: What it is, for messages.
        fits: Whether a file is of this kind.
        rows: The rows of a file.
        image: What the file calls its images: a column, or a name for messages.
        mos: What the file calls its scores, likewise.
        best: The best of scores that fall with quality, from which they are subtracted; None: they rise, or the
            pictures' names tell (`names`).
        told: What says which way the scores go: True: the format; None: the pictures' names, else they rise; False: the
            names, else the caller must.
    """

    name: str
    title: str
    fits: Callable[[Source], bool]
    rows: Callable[[Source], Iterator[Row]]
    image: Column = "image"
    mos: Column = "mos"
    best: float | None = None
    told: bool | None = True


def columns(
    table: Table, image: Column, mos: Column, split: Column | None = None, group: Column | None = None
) -> Iterator[Row]:
    """The rows of a table by its columns; `id`, `split` and the reference are taken along if there are any.

    Args:
        table: The table.
        image: Column of the image's path.
        mos: Column of the score.
        split: Column of the split; default: `split` if there is one.
        group: Column of what belongs together; default: `group`, or the column of the reference.
    """
    wanted: dict[str, Column | None] = {"image": image, "mos": mos, "id": "id", "split": split or "split"}
    wanted |= {"group": group if group is not None else next((one for one in _GROUPS if table.has((one,))), None)}
    for where, cells, reason in table.picked(wanted):
        of = {key: cells.get(key) for key in ("id", "split", "group")}
        yield Row(where, cells.get("image"), cells.get("mos"), of["id"], _split(of["split"]), None, reason, of["group"])


def _split(value: Any) -> Any:
    """Splits by their short names; numbers stay what they are, as text."""
    return None if value is None else SPLIT_NAMES.get(str(value), str(value))


def _table(name: str, image: str, mos: str, *needed: str, title: str = "", told: bool | None = True) -> Format:
    """The format of a table that is told by its columns."""
    every = (image, mos, *needed)

    def rows(source: Source) -> Iterator[Row]:
        return columns(source.check_columns((image, mos)), image, mos)

    return Format(name, title or f"table with {', '.join(every)}", _has(*every), rows, image, mos, told=told)


def _has(*names: Column) -> Callable[[Source], bool]:
    return lambda source: source.kind in ("text", "xlsx", "xls", "json") and source.table(names) is not None


def _livec(source: Source) -> Iterator[Row]:
    """LIVE Challenge's two .mat files; the images that taught the raters have the split "training"."""
    path = source.path
    images = Source(path.with_name("AllImages_release.mat")).variable("AllImages_release")
    scores = Source(path.with_name("AllMOS_release.mat")).variable("AllMOS_release")
    if len(images) != len(scores):
        found = f"<{len(images)} images and {len(scores)} scores>"
        raise EvaluationError.about("path", found, f"as many scores as images in {path.parent}")
    for place, (image, score) in enumerate(zip(images, scores, strict=True)):
        yield Row(f"row {place}", image, score, split="training" if place < _LIVEC_TAUGHT else "test")


def _lines(source: Source) -> Iterator[Row]:
    """Lines of a score and a file name, either first, with white space, commas or semicolons between."""
    for place, line in enumerate(source.text.splitlines(), start=1):
        if found := _SCORE_FIRST.fullmatch(line) or _NAME_FIRST.fullmatch(line):
            yield Row(f"line {place}", found["name"].strip("\"' "), found["score"])
        elif len(parts := line.split()) == 2:  # neither is a number, which the row's check will say
            yield Row(f"line {place}", parts[1], parts[0])
        elif parts:
            yield Row(f"line {place}", reason=f"{shorten(line)} is no score and name")


def _is_lines(source: Source) -> bool:
    """Whether the first line is a number and a name, whatever is between them."""
    first = next((line for line in source.text.splitlines() if line.strip()), "") if source.kind == "text" else ""
    return bool(_SCORE_FIRST.fullmatch(first) or _NAME_FIRST.fullmatch(first))


def _named_lines(pattern: re.Pattern[str]) -> Callable[[Source], bool]:
    """Lines whose pictures have names of this kind."""
    return lambda source: _is_lines(source) and bool(pattern.fullmatch(PurePosixPath(_first_image(source)).name))


def _first_image(source: Source) -> str:
    return str(next(_lines(source)).image).replace("\\", "/")


def _listed(source: Source) -> Iterator[Row]:
    """Q-Bench's, Q-Align's and the authors' JSON lists, and manifests of ours.

    The image stands under `image` or `img_path`; the score under `gt_score`, else behind `->` in `id`, as the authors'
    evaluation reads it. The level word that ends the answer of a conversation becomes `Item.level`.
    """
    for place, fields in enumerate(source.elements):
        yield _element(place, fields)


def _element(place: int, fields: Any) -> Row:
    talked = isinstance(fields, Mapping) and "conversations" in fields
    if talked and "gt_score" not in fields and "->" in str(fields.get("id")):
        fields = {**fields, "gt_score": str(fields["id"]).rpartition("->")[2]}
    row = json_row(place, fields, IMAGE_KEYS)
    if row.reason:
        return row._replace(reason=row.reason.replace("gt_score", FROM_ID)) if talked else row
    return row._replace(level=_said(fields["conversations"])) if talked else row


def _said(said: Any) -> str | None:
    """The last word of the last answer; None if there is no answer."""
    answer = said[-1].get("value") if isinstance(said, list) and said and isinstance(said[-1], Mapping) else None
    return answer.rstrip(" .\n").rpartition(" ")[2].lower() if isinstance(answer, str) else None


def _listed_with(*keys: str) -> Callable[[Source], bool]:
    """Whether the first element of a JSON file is an object with an image, and with one of the keys."""

    def fits(source: Source) -> bool:
        first = source.elements[0] if source.kind == "json" and source.elements else None
        return isinstance(first, Mapping) and any(key in first for key in keys) and not _columns_of(first)

    return fits


def _columns_of(first: Mapping[str, Any]) -> bool:
    """Whether an object holds whole columns and not one row."""
    return all(isinstance(value, (list, Mapping)) for value in first.values())


def _csiq(source: Source) -> Iterator[Row]:
    """CSIQ's "csiq.DMOS.xlsx" (sheet all_by_image), or a csv with the columns `dist_name` and `dmos` in its place.

    Images are named by their file names ("1600.AWGN.1.png"), without the folder of the distortion.
    """
    if source.kind == "xlsx":
        yield from _csiq_excel(source)
        return
    for row in columns(source.check_columns(("dist_name", "dmos")), "dist_name", "dmos"):
        yield row._replace(image=PurePosixPath(str(row.image or "")).name)


def _csiq_excel(source: Source) -> Iterator[Row]:
    """The table begins somewhere below and right of the corner."""
    table = source.check_columns(_CSIQ_COLUMNS, _CSIQ_SHEET)
    for where, cells, _ in table.picked({name: name for name in _CSIQ_COLUMNS}):
        image, reason = _csiq_name(*(cells[name] for name in _CSIQ_COLUMNS[:3]))
        yield Row(where, image, cells["dmos"], reason=reason)


def _sheet(name: str) -> Callable[[Source], bool]:
    return lambda source: source.kind == "xlsx" and any(table.name == name for table in source.tables)


_is_csiq = _sheet(_CSIQ_SHEET)


def _csiq_name(reference: Any, kind: Any, level: Any) -> tuple[str | None, str]:
    """The image's file name, or why there is none; Excel holds "1600" and the level as numbers."""
    token = _CSIQ_TOKENS.get(str(kind).strip().lower())
    texts = [f"{cell:g}" if isinstance(cell, (int, float)) else str(cell or "").strip() for cell in (reference, level)]
    if token is None or not texts[0] or not re.fullmatch(r"[1-9]", texts[1]):
        known = ", ".join(_CSIQ_TOKENS)
        return None, f"image {reference!r}, dst_type {kind!r}, dst_lev {level!r}: expected a name, one of {known}, 1..5"
    return f"{texts[0]}.{token}.{texts[1]}.png", ""


def _live(source: Source) -> Iterator[Row]:
    """LIVE's "dmos_realigned.mat": scores of 982 images in the order jp2k, jpeg, wn, gblur, fastfading.

    Undistorted copies of the references (`orgs`), which readers leave out, have the split "reference", others "test".
    Other than 982 entries are refused: they would name other images. The references' names, by which versions of one
    picture belong together, are those of "refnames_all.mat", if it lies beside.
    """
    path = source.path
    names = [f"{folder}/img{place}.bmp" for folder, count in _LIVE_FOLDERS for place in range(1, count + 1)]
    scores, originals = (source.variable(key) for key in ("dmos_new", "orgs"))
    _check_length(source, "dmos_new and orgs", (scores, originals), len(names))
    beside = Source(path.with_name("refnames_all.mat"))
    references: Sequence[Any] = [None] * len(names)
    if beside.path.is_file():
        references = beside.variable("refnames_all")
        _check_length(beside, "refnames_all", (references,), len(names))
    rows = zip(names, scores, originals, references, strict=True)
    for place, (name, dmos, original, reference) in enumerate(rows):
        split = "reference" if scalar(original) else "test"
        yield Row(f"row {place}", name, dmos, split=split, group=None if reference is None else str(reference))


def _check_length(source: Source, what: str, found: Sequence[Sequence[Any]], expected: int) -> None:
    if any(len(one) != expected for one in found):
        shown = f"<{' and '.join(str(len(one)) for one in found)} entries>"
        hint = "Places in the list are the images' names, so none may be missing."
        raise EvaluationError.about("path", shown, f"{expected} entries of {what} in {source.path}", hint)


def _matlab_with(*names: str) -> Callable[[Source], bool]:
    return lambda source: source.kind == "matlab" and any(name in source.variables for name in names)


def _koniq_sets(source: Source) -> Iterator[Row]:
    """KonIQ's "koniq10k_distributions_sets.csv": its MOS is the other file's MOS_zscore; it has the official split."""
    return columns(source.check_columns(("image_name", "MOS", "set")), "image_name", "MOS", "set")


def _uhd(source: Source) -> Iterator[Row]:
    """UHD-IQA's metadata; the split is the column `set`, if there is one, or the images' folder."""
    table = source.check_columns(("image_name", "quality_mos"))
    for row in columns(table, "image_name", "quality_mos", "set" if table.has(("set",)) else None):
        folder = str(row.image).split("/")[0] if "/" in str(row.image) else None
        yield row if row.split or folder is None else row._replace(split=SPLIT_NAMES.get(folder, folder))


def _kadid(source: Source) -> Iterator[Row]:
    """KADID-10k's "dmos.csv"; a column `split` wins over Q-Align's split, whose test part begins with I66."""
    for row in columns(source.check_columns(("dist_img", "dmos")), "dist_img", "dmos"):
        yield row if row.split or row.reason else row._replace(split=_kadid_split(row.group))


def _kadid_split(reference: Any) -> str:
    found = re.fullmatch(r"[iI](\d+)\.png", str(reference or ""))
    return "test" if found and 66 <= int(found[1]) <= 81 else "train"


def _pipal(source: Source) -> Iterator[Row]:
    """PIPAL's labels: a folder of files, one for each reference, or one of them: lines of a name and an Elo score."""
    files = sorted(source.path.glob("*.txt")) if source.kind == "folder" else [source.path]
    for file in files:
        for row in _lines(Source(file)):
            yield row._replace(where=f"{file.name}, {row.where}" if len(files) > 1 else row.where)


def _is_pipal(source: Source) -> bool:
    files = sorted(source.path.glob("*.txt")) if source.kind == "folder" else [source.path]
    return bool(files) and _named_lines(_PIPAL_NAME)(Source(files[0]))


def _livemd(source: Source) -> Iterator[Row]:
    """LIVE Multiply Distorted's two parts: "Scores.mat", and "Imagelists.mat" beside it, in "Part 1" and "Part 2".

    Layout by IQA-PyTorch's `scripts/process_livemd.py` at 01ae427.
    """
    for number, kind in ((1, "blurjpeg"), (2, "blurnoise")):
        part = source.path.parent.with_name(source.path.parent.name[:-1] + str(number))
        scores = Source(part / source.path.name).variable("DMOSscores")
        images = Source(part / "Imagelists.mat").variable("distimgs")
        _check_length(Source(part / "Imagelists.mat"), "distimgs", (images,), len(scores))
        for place, (image, score) in enumerate(zip(images, scores, strict=True)):
            yield Row(f"{part.name}, row {place}", f"{part.name}/{kind}/{image}", score)


def _aigciqa2023(source: Source) -> Iterator[Row]:
    """AIGCIQA2023's "mosz1.mat" (quality): 2400 scores of 0.png, 1.png ...; 6 models, 100 prompts, 4 pictures of each.

    The order is that of the readers that are passed on; the archive itself was not at hand.
    """
    scores = source.variable("MOSz")
    _check_length(source, "MOSz", (scores,), _AIGCIQA2023)
    for place, score in enumerate(scores):
        yield Row(f"row {place}", f"{place}.png", score, group=f"prompt {place % 400 // 4}")


def _bid(source: Source) -> Iterator[Row]:
    """BID's "DatabaseGrades.xls": numbers as names, "DatabaseImage0001.JPG" on the disk."""
    columns_ = ("Image Number", "Average Subjective Grade")
    for row in columns(source.check_columns(columns_), *columns_):
        number = f"{row.image:04.0f}" if isinstance(row.image, (int, float)) else str(row.image or "")
        yield row._replace(image=f"DatabaseImage{number}.JPG" if number else None, id=number or None)


def _cid2013(source: Source) -> Iterator[Row]:
    """CID2013's Excel file, sheet "CID2013 MOS": realigned scores, on one scale for its six sets; some are negative.

    `Source_ID` "IS_I_C01_D01" is the picture IS1/co1/IS_I_C01_D01.jpg, of the scene C01.
    """
    names = ("Source_ID", "Realigned MOS")
    for row in columns(source.check_columns(names, _CID_SHEET), *names):
        found = _CID_NAME.fullmatch(str(row.image))
        if found is None:
            yield row._replace(reason=f"{row.image!r} is no name such as IS_I_C01_D01")
        else:
            number = _ROMAN.index(found[1]) + 1
            image = f"IS{number}/co{int(found[2])}/{found[0]}.jpg"
            yield row._replace(image=image, id=found[0], group=f"IS{number} C{found[2]}")


def _ava(source: Source) -> Iterator[Row]:
    """AVA's "AVA.txt": number, image, counts of votes for 1 to 10, two tags, challenge; the score is the mean vote."""
    for place, line in enumerate(source.text.splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        votes = [int(part) for part in parts[2:12] if part.isdigit()]
        if len(votes) < 10 or not sum(votes):
            yield Row(f"line {place}", reason=f"{shorten(line)} has no ten counts of votes")
        else:
            mean = sum(score * count for score, count in enumerate(votes, start=1)) / sum(votes)
            yield Row(f"line {place}", f"{parts[1]}.jpg", mean)


def _is_ava(source: Source) -> bool:
    first = source.text.split("\n", 1)[0].split() if source.kind == "text" else []
    return len(first) >= 12 and all(part.isdigit() for part in first[:12])


def _mdid(source: Source) -> Iterator[Row]:
    """MDID's "mos.txt": 1600 scores, 80 versions of each of 20 references in the order of their names."""
    scores = source.text.split()
    _check_length(source, "scores", (scores,), 20 * 80)
    for place, score in enumerate(scores):
        yield Row(f"line {place + 1}", f"img{place // 80 + 1:02}_{place % 80 + 1:02}.bmp", score)


def _is_mdid(source: Source) -> bool:
    return source.kind == "text" and len(parts := source.text.split()) == 20 * 80 and all(map(is_number, parts))


def _piq23(source: Source) -> Iterator[Row]:
    """PIQ23's "Scores_Overall.csv" (or _Details, _Exposure): just-objectionable differences; higher is better."""
    table = source.check_columns(("IMAGE PATH", "JOD"))
    group = "SCENE" if table.has(("SCENE",)) else None
    for row in columns(table, "IMAGE PATH", "JOD", group=group):
        yield row._replace(split=row.split.lower() if row.split else row.split)


def _pyiqa(name: str, mos: str) -> Format:
    """IQA-PyTorch's `meta_info_*.csv`: `dist_name` beside a reference, `img_name` without; splits may be 0, 1, 2."""

    def rows(source: Source) -> Iterator[Row]:
        image = next((one for one in _PYIQA_IMAGES if source.table((one, mos))), _PYIQA_IMAGES[0])
        for row in columns(source.check_columns((image, mos)), image, mos):
            yield row._replace(split=_PYIQA_SPLITS.get(row.split, row.split))

    def fits(source: Source) -> bool:
        return any(_has(image, mos)(source) for image in _PYIQA_IMAGES)

    told = None if mos == "mos" else False
    return Format(name, f"table with {' or '.join(_PYIQA_IMAGES)}, {mos}", fits, rows, "img_name", mos, told=told)


_is_conversations = _listed_with("conversations")
_is_qbench = _listed_with("gt_score", "img_path")

# In the order in which they are tried.
_FORMATS = (
    Format(
        "livec", "LIVE Challenge's AllMOS_release.mat", _matlab_with("AllMOS_release", "AllImages_release"), _livec,
        "AllImages_release", "AllMOS_release",
    ),
    Format("live", "LIVE's dmos_realigned.mat", _matlab_with("dmos_new"), _live, mos="dmos_new", best=100.0),
    Format("livemd", "LIVE MD's Scores.mat", _matlab_with("DMOSscores"), _livemd, mos="DMOSscores", best=100.0),
    Format("aigciqa2023", "AIGCIQA2023's mosz1.mat", _matlab_with("MOSz"), _aigciqa2023, mos="MOSz"),
    Format("csiq", "CSIQ's Excel file", _is_csiq, _csiq, mos="dmos", best=1.0),
    Format("conversations", "JSON list with `conversations`", _is_conversations, _listed, mos=FROM_ID, told=None),
    Format(
        "qbench", "JSON list or lines of img_path or image, gt_score", _is_qbench, _listed, "img_path", "gt_score",
        told=None,
    ),
    _table("spaq", "Image name", "MOS", title="SPAQ's Excel file"),
    _table("koniq", "image_name", "MOS_zscore"),
    Format("koniq-sets", "KonIQ's file of sets", _has("image_name", "MOS", "set"), _koniq_sets, "image_name", "MOS"),
    Format("uhd", "UHD-IQA's metadata", _has("image_name", "quality_mos"), _uhd, "image_name", "quality_mos"),
    _table("agiqa1k", "Image", "MOS", "Prompt"),
    Format("piq23", "table with IMAGE PATH, JOD", _has("IMAGE PATH", "JOD"), _piq23, "IMAGE PATH", "JOD"),
    _table("pipal-elo", "dist_name", "elo_score"),
    Format("cid2013", "CID2013's Excel file", _sheet(_CID_SHEET), _cid2013, "Source_ID", "Realigned MOS"),
    Format(
        "bid", "BID's DatabaseGrades.xls", _has("Image Number", "Average Subjective Grade"), _bid,
        "Image Number", "Average Subjective Grade",
    ),
    _table("agiqa", "name", "mos_quality"),
    Format("kadid", "table with dist_img, dmos", _has("dist_img", "ref_img", "dmos"), _kadid, "dist_img", "dmos"),
    _table("csv", "image", "mos", told=None),
    _table("flive", "name", "mos"),
    _pyiqa("pyiqa", "mos"),
    _pyiqa("pyiqa-dmos", "dmos"),
    _table("scores", "path", "score", "level", title="what `qsit score` writes"),
    Format("tid2013", "lines of score and TID's file names", _named_lines(_TID_NAME), _lines),
    Format("pipal", "lines of PIPAL's file names and Elo scores, or a folder of such files", _is_pipal, _pipal),
    Format("mdid", "MDID's mos.txt", _is_mdid, _mdid),
    Format("ava", "AVA.txt", _is_ava, _ava),
    Format("lines", "lines of score and name, either first", _is_lines, _lines, told=False),
)  # fmt: skip

FORMATS: Mapping[str, Format] = {one.name: one for one in _FORMATS}
