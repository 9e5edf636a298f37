"""From a label file to a manifest: a known format, or columns that the caller names; which way the scores go.

A direction is never guessed. It is a fact of the format, of the set whose pictures these are (`names`), or the caller's
word; without one of them the file is refused.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import EvaluationError, counted
from ..files import PathLike
from ..levels import LEVELS
from .formats import FORMATS, Format, columns
from .manifest import Item, Manifest, Row, renamed, usable_items
from .names import Named, named
from .tables import Column, Source, folded, is_number

_LOG = logging.getLogger("qsit_metric")
_PADDED = re.compile(r"(\.\w{1,5})\s+$")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")
_THOUSANDS = re.compile(r"\s*[-+]?\d{1,3},\d{3}\s*")
_DIFFERENCE = re.compile(r"dmos|diff|distort|degrad|\berr", re.IGNORECASE)
_TELL = "Pass lower_is_better=True if the smaller number is the better picture, else lower_is_better=False."


def read_scores(
    path: PathLike,
    format: str | None = None,
    *,
    image: Column | None = None,
    mos: Column | None = None,
    split: Column | None = None,
    group: Column | None = None,
    lower_is_better: bool | None = None,
    delimiter: str | None = None,
    folder: PathLike | None = None,
    root: PathLike | None = None,
    name: str | None = None,
    refused: list[str] | None = None,
) -> Manifest:
    """Read one label file: csv, Excel, MATLAB, JSON, JSON Lines, or lines of scores and names.

    Without names of columns the format is told from the content. Names of columns count in any case; a table without a
    header has numbers, from 0. Pictures that lie under another path than the file says (without its first folders,
    without a suffix) are found below the folder.

    Args:
        path: The file. LIVE Challenge has two: pass AllMOS_release.mat, with AllImages_release.mat beside it.
        format: A key of `FORMATS`; default: told from the content.
        image: Column (JSON key, MATLAB variable) of the images.
        mos: Column of the mean opinion scores, higher is better, unless `lower_is_better` says otherwise.
        split: Column of the splits; default: `split` if there is one.
        group: Column of what belongs together, such as the reference; default: `group`, or the set's own.
        lower_is_better: Whether a smaller number is a better picture. Such scores are turned round: subtracted from the
            best of a known set, else negated. Default: what format, set or column tell.
        delimiter: Of a csv file, one character or comma, semicolon, tab, bar, space; default: told from its header.
        folder: Folder of the images: one beside the file, or else any.
        root: The same, taken as it is; default: the file's own folder.
        name: Name of the data set; default: the file's, without suffix.
        refused: A list that takes the rows that cannot be used, which leaves them out; default: they are an error.

    Returns:
        The items in the file's order, no row left out but those in `refused`.

    Raises:
        EvaluationError: No such file, an unknown format, no such columns (the message shows those that are there),
            scores of which nothing tells the direction, or unusable rows (with `refused`: no others); it names them.
        DependencyError: The format needs a package that is not installed.

    Example:
        >>> read_scores("labels.csv", image="img_name", mos="score", folder="images").items[0]  # doctest: +SKIP
        Item(image='a.jpg', mos=3.5, id='a.jpg', split='', level=None, group='')
    """
    source = Source(Path(path), delimiter)
    place = _folder(source.path, folder, root)
    form = _format_of(source, format)
    if any(one is not None for one in (image, mos, split, group)):
        form = _own(source, form, image, mos, split, group)
    elif form is None:
        raise _unknown(source)
    items, scale = read_items(form, source, refused, lower_is_better, place)
    return _found(Manifest(name or source.path.stem, items, place, scale))


def format_of(path: PathLike) -> Format | None:
    """The format that a file's content tells; None if it is none that is known.

    Raises:
        EvaluationError: The file cannot be read.
    """
    return _format_of(Source(Path(path)), None)


def _format_of(source: Source, name: str | None) -> Format | None:
    if name is not None:
        if name not in FORMATS:
            raise EvaluationError.about("format", name, f"one of {', '.join(FORMATS)}")
        return FORMATS[name]
    return next((one for one in FORMATS.values() if one.fits(source)), None)


def _unknown(source: Source) -> EvaluationError:
    hint = f"{source.seen()} Name the columns of the images and of the scores, as `image` and `mos`."
    expected = f"a label file in a known format ({', '.join(FORMATS)})"
    return EvaluationError.about("path", str(source.path), expected, hint)


def _own(
    source: Source,
    form: Format | None,
    image: Column | None,
    mos: Column | None,
    split: Column | None,
    group: Column | None,
) -> Format:
    """The format of a file by its columns; those that are not named are the known format's, if it is known."""
    image = image if image is not None or form is None else form.image
    mos = mos if mos is not None or form is None else form.mos
    if image is None or mos is None:
        argument = "image" if image is None else "mos"
        raise EvaluationError.about(
            argument, None, "the name of a column, since `image` and `mos` go together", source.seen()
        )
    told: bool | None = False if isinstance(mos, str) and _DIFFERENCE.search(mos) else None
    if form is not None and form.mos == mos:
        told, best = form.told, form.best
    else:
        best = None
    rows = partial(_own_rows, image=image, mos=mos, split=split, group=group)
    return Format("columns", "columns that were named", lambda _: True, rows, image, mos, best, told)


def _own_rows(source: Source, image: Column, mos: Column, split: Column | None, group: Column | None) -> Iterator[Row]:
    if source.kind == "matlab":
        return _matlab_rows(source, str(image), str(mos))
    needed = [one for one in (image, mos, split, group) if one is not None]
    return columns(source.check_columns(needed), image, mos, split, group)


def _matlab_rows(source: Source, image: str, mos: str) -> Iterator[Row]:
    images, scores = source.variable(image), source.variable(mos)
    if len(images) != len(scores):
        found = f"<{len(images)} {image} and {len(scores)} {mos}>"
        raise EvaluationError.about("path", found, f"as many scores as images in {source.path}")
    for place, (one, score) in enumerate(zip(images, scores, strict=True)):
        yield Row(f"row {place}", one, score)


def read_items(
    form: Format, source: Source, refused: list[str] | None, lower: bool | None, root: Path
) -> tuple[tuple[Item, ...], str]:
    """The items of a file of a format, and what their scores are.

    Args:
        form: The format.
        source: The file.
        refused: As for `read_scores`.
        lower: Whether a smaller score is better; None: what format and pictures tell.
        root: Folder of the images, which is taken off absolute paths.

    Raises:
        EvaluationError: Another kind of file, nothing that tells the direction, or unusable rows.
        DependencyError: The format needs a package that is not installed.
    """
    rows = [_tidy(row, root) for row in _decimal_points(list(form.rows(source)))]
    best = _best(form, source, rows, lower)
    rows = _levels(source, rows, best is not None)
    shown = [str(one) for one in (form.image, form.mos)]
    items = usable_items(source.path, rows, image=shown[0], mos=shown[1], best=best, refused=refused)
    scores = [item.mos for item in items]
    turned = "" if best is None else f"{best:g} - " if best else "-"
    return items, f"{turned}{shown[1]}, {min(scores):g}..{max(scores):g}" if scores else ""


def _best(form: Format, source: Source, rows: Sequence[Row], lower: bool | None) -> float | None:
    """What scores are subtracted from; None if they rise with quality.

    Raises:
        EvaluationError: Nothing tells whether they do.
    """
    scores = {row.image: float(row.mos) for row in rows if isinstance(row.image, str) and is_number(row.mos)}
    of = named(scores)
    best = form.best if form.best is not None or of is None else of.best
    if lower is None and form.best is None:
        lower = _falls(form, source, of, scores)
    falls = form.best is not None if lower is None else lower
    return (0.0 if best is None else best) if falls else None


def _falls(form: Format, source: Source, of: Named | None, scores: Mapping[str, float]) -> bool:
    """Whether scores fall with quality, by the pictures or by what the format says.

    Raises:
        EvaluationError: Nothing tells.
    """
    called = str(form.mos)
    if form.told:
        return False
    if of is not None and of.best is not None:  # published with DMOS, but passed on either way
        falls = of.falls(scores)
        if falls is None and _DIFFERENCE.search(called):
            falls = True
        if falls:
            said = "%s: these are the pictures of %s, and their scores fall with quality (DMOS): they are turned round"
            _LOG.warning(said, source.path, of.title)
        if falls is not None or folded(called) == "mos":
            return bool(falls)
    elif form.told is None or of is not None:
        return False
    expected = f"True or False: nothing says which way the scores ({called}) in {source.path} go"
    raise EvaluationError.about("lower_is_better", None, expected, _TELL)


def _levels(source: Source, rows: list[Row], turned: bool) -> list[Row]:
    """Rows with the level words that can be used: none that is off the list, and none made of upside-down scores."""
    stated = [row for row in rows if row.level is not None]
    odd = [row for row in stated if row.level not in LEVELS]
    if odd:
        counts = f"{len(odd)} of {counted(len(rows), 'row')}"
        said = "%s: %s state a level that is none of %s, and keep their scores without one; first %s, %r"
        _LOG.warning(said, source.path, counts, ", ".join(LEVELS), odd[0].where, odd[0].level)
    if turned and stated:
        _LOG.warning("%s: its level words are made of scores that are turned round, and left out", source.path)
    return [row._replace(level=None) if turned or row.level not in LEVELS else row for row in rows]


def _decimal_points(rows: list[Row]) -> list[Row]:
    """Scores such as "3,5" as "3.5", if a comma can mean nothing else: "1,460" alone might be a thousand."""
    texts = [row.mos for row in rows if isinstance(row.mos, str) and row.mos.strip()]
    commas = [text for text in texts if _DECIMAL_COMMA.fullmatch(text)]
    if not commas or any("." in text for text in texts) or all(map(_THOUSANDS.fullmatch, commas)):
        return rows
    return [row._replace(mos=row.mos.replace(",", ".")) if row.mos in commas else row for row in rows]


def _tidy(row: Row, root: Path) -> Row:
    """The image's path as a manifest has it; the row's id stays as the file has it."""
    image, given = row.image, row.image
    if isinstance(image, list) and len(image) == 1:
        image = given = image[0]
    if isinstance(image, (int, float)) and not isinstance(image, bool):
        image = given = f"{image:g}" if float(image).is_integer() and abs(image) < 1e6 else str(image)
    if not isinstance(image, str):
        return row
    path = _PADDED.sub(r"\1", image.replace("\\", "/"))
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    path = _below(path, root)
    return row._replace(image=path, id=given if row.id is None else row.id)


def _below(path: str, root: Path) -> str:
    """An absolute path as one below the root, if it is there."""
    if not (path.startswith("/") or PureWindowsPath(path[:3]).drive):
        return path
    bases = (root, root.absolute(), root.resolve())
    return next((Path(path).relative_to(base).as_posix() for base in bases if Path(path).is_relative_to(base)), path)


def _folder(path: Path, folder: PathLike | None, root: PathLike | None) -> Path:
    """The images' folder: `folder` beside the label file if it is there, else as it is; `root`; the file's own."""
    if folder is not None and root is not None:
        raise EvaluationError.about("folder", str(folder), "one of `folder` and `root`, not both")
    if folder is not None:
        beside = path.parent / folder
        return beside if beside.is_dir() else Path(folder)
    own = path if path.is_dir() else path.parent
    return own if root is None else Path(root)


def _found(manifest: Manifest) -> Manifest:
    """The manifest with its images under the paths where they lie, if none lies where the file says.

    Tried are paths without their first folders, one more at a time, and for names without a suffix the files that have
    one. Only what gives each image a file of its own is taken.
    """
    images = list(dict.fromkeys(item.image for item in manifest.items))
    if not manifest.root.is_dir() or _one_is_there(manifest.root, images):
        return manifest
    deepest = max(image.count("/") for image in images)
    for drop in range(1, deepest + 1):
        names = {image: image.split("/", drop)[-1] for image in images}
        if len(set(names.values())) == len(images) and _one_is_there(manifest.root, names.values()):
            return renamed(manifest, names)
    if not any(PurePosixPath(image).suffix for image in images):
        return renamed(manifest, _with_suffix(manifest.root, images))
    return manifest


def _one_is_there(root: Path, names: Iterable[str]) -> bool:
    return any(os.path.isfile(f"{root}/{name}") for name in names)  # noqa: PTH113  # ten times as fast as Path


def _with_suffix(root: Path, images: Sequence[str]) -> dict[str, str]:
    """Files by the names without suffix that they go by; names of two files are left as they are."""
    files: dict[str, list[str]] = {}
    for below in dict.fromkeys(str(PurePosixPath(image).parent) for image in images):
        for file in sorted((root / below).glob("*")) if (root / below).is_dir() else ():
            name = file.relative_to(root).with_suffix("").as_posix()
            files.setdefault(name, []).append(file.relative_to(root).as_posix())
    return {image: files[image][0] for image in images if len(files.get(image, ())) == 1}
