"""`qsit map`: where pictures are bad, in words, as pictures and as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from .. import console
from ..errors import OutputError, QSiTError
from ..files import to_json
from . import map_files
from .command import FAILED, about, options_of
from .inputs import expand, key
from .options import AnyFile, JsonLines, ModelOptions, Null, Paths, Recursive, TrustNames
from .scores import is_same, provenance, stamp_fields, stamp_of, take_stamp

if TYPE_CHECKING:
    from ..maps import MapRequest
    from ..metric import QSiT

_ALIKE = 0.25  # of the scale 1..5: smaller differences between windows are not worth a word


def map_(
    ctx: typer.Context,
    *,
    paths: Paths,
    recursive: Recursive = False,
    null: Null = False,
    any_file: AnyFile = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PLACE",
            help="A .png, .npz or .json file for one picture, a folder for many. A map that is there, made in the same "
            "way, is kept, so a run that was stopped goes on where it was.",
        ),
    ] = None,
    shown: Annotated[
        Literal["png", "npz", "json"] | None, typer.Option("--format", help="Of the files in a folder (default: png).")
    ] = None,
    method: Annotated[
        Literal["windows", "saliency"],
        typer.Option("--method", help="Score windows of the picture, or sum the gradient of its score over windows."),
    ] = "windows",
    window: Annotated[
        int | None,
        typer.Option("--window", metavar="N", help="Side of a window in pixels (default: by model, size)."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", metavar="N", help="Pixels between windows (default: half a window).")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option("--overlap", metavar="N", help="Pixels that windows share, instead of --stride.")
    ] = None,
    trust_names: TrustNames = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: JsonLines = False,
) -> int:
    """Say where pictures are bad, and draw it.

    Orange is bad and blue is good; the frame is around the worst window.
    """
    from ..maps import MapRequest

    # One by one, so that each map is there as soon as it is computed.
    options, wanted = options_of(ctx, ModelOptions), MapRequest(method, window, stride, overlap)
    found = expand(paths, recursive=recursive, null=null, any_file=any_file)
    pictures = [path for path in found if path in paths or not map_files.is_map(path)]
    files = map_files.targets(pictures, paths, output, shown)
    metric = options.load()
    made = {map_files.ASKED: asdict(wanted), **provenance(metric, exif=not options.no_exif)}
    kept = {} if overwrite else _kept(files, made, trust_names)
    failed = 0
    for path in pictures:
        try:
            record = kept.get(path) or _made(metric, path, wanted, made, files.get(path))
        except OutputError:
            raise
        except QSiTError as error:
            console.say(f"failed: {about(path, error)}", "red")
            failed += 1
            continue
        if as_json:
            console.write(to_json(record) + "\n")
        else:
            console.out().print(Text(f"{console.printable(path)}: {in_words(record)}"), soft_wrap=True)
    if output:
        count = len(pictures) - failed - len(kept)
        console.say(f"{console.printable(str(output))}: {count} added, {len(kept)} were there already")
    return FAILED if failed else 0


def _kept(files: Mapping[str, Path], made: Mapping[str, Any], trust_names: bool) -> dict[str, dict[str, Any]]:
    """Maps that are there already; all files are looked at before anything is computed."""
    held = {path: map_files.known(target, {"path": key(path), **made}) for path, target in files.items()}
    return {
        path: record for path, record in held.items() if record and (trust_names or is_same(path, stamp_of(record)))
    }


def _made(metric: QSiT, path: str, wanted: MapRequest, made: Mapping[str, Any], target: Path | None) -> dict[str, Any]:
    stamp = take_stamp(path)
    found = metric.map(path, **asdict(wanted), exif=bool(made["exif"]))
    record = {"path": key(path), **found.as_dict(), **made, **stamp_fields(stamp)}
    if target is not None:
        map_files.write(found, record, target)
    return record


def in_words(record: Mapping[str, Any]) -> str:
    """Say what a map shows.

    Example:
        >>> worst = {"left": 0, "top": 256, "right": 128, "bottom": 384, "value": 1.87}
        >>> shown = {"score": 3.42, "level": "fair", "method": "windows", "width": 512, "height": 384}
        >>> in_words({**shown, "values": [[3.9, 4.1], [1.87, 3.3]], "worst": worst})
        '3.42 (fair); worst at the lower left: 1.87 in 128x128 pixels at (0, 256)'
        >>> in_words({**shown, "values": [[3.3, 3.5]], "worst": {**worst, "value": 3.3}})
        '3.42 (fair); much the same everywhere: 3.30 to 3.50'
    """
    whole, worst = f"{record['score']:.2f} ({record['level']})", record["worst"]
    values = [value for row in record["values"] for value in row]
    size = f"{worst['right'] - worst['left']}x{worst['bottom'] - worst['top']} pixels"
    if len(values) == 1:
        return f"{whole}; one window of {size}, the whole picture: a smaller --window looks closer"
    where = f"{_place(record)}: {{}} in {size} at ({worst['left']}, {worst['top']})"
    if record["method"] == "saliency":
        return f"{whole}; a change of pixels moves the score most at the {where.format(format(worst['value'], '.2g'))}"
    low, high = min(values), max(values)
    if high - low < _ALIKE:
        return f"{whole}; much the same everywhere: {low:.2f} to {high:.2f}"
    return f"{whole}; worst at the {where.format(format(low, '.2f'))}"


def _place(record: Mapping[str, Any]) -> str:
    """In which ninth of the picture the middle of the worst window lies."""
    worst = record["worst"]
    across = (worst["left"] + worst["right"]) / 2 / record["width"]
    down = (worst["top"] + worst["bottom"]) / 2 / record["height"]
    row, col = (("upper", "middle", "lower")[_third(down)], ("left", "centre", "right")[_third(across)])
    return "centre" if (row, col) == ("middle", "centre") else f"{row} {col}"


def _third(share: float) -> int:
    return min(int(share * 3), 2)
