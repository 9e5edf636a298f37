"""`qsit evaluate`: how well a model's scores agree with people's, for any file of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from .. import console
from ..errors import OutputError, QSiTError
from ..files import Files, to_json
from .command import FAILED, about, options_of
from .options import Json, ModelOptions

_SHOWN = ("srcc", "plcc", "krcc")
_WIDTH, _HEIGHT = 56, 18  # of the scatter on a terminal, in characters
_FILES = Files(OutputError, "--scatter")


def evaluate(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="A csv, Excel, MATLAB or JSON file of labels.")],
    *,
    image: Annotated[
        str | None, typer.Option("--image-column", metavar="NAME", help="Column of the pictures (default: told).")
    ] = None,
    mos: Annotated[
        str | None, typer.Option("--mos-column", metavar="NAME", help="Column of people's scores (default: told).")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="FOLDER", help="Where the pictures lie (default: beside LABELS).")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only the pictures of this split.")
    ] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="Small numbers are good, as in DMOS.")
    ] = False,
    scatter: Annotated[
        Path | None, typer.Option("--scatter", metavar="FILE", help="Draw scores against labels into an .svg file.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Save the scores as .csv, or all as .json."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Compare a model's scores with people's: SRCC, PLCC and KRCC with 95 % intervals, and the scatter."""
    from .. import evaluation

    if scatter and scatter.suffix.lower() != ".svg":
        raise OutputError.about("--scatter", str(scatter), "a name that ends in .svg")
    options = options_of(ctx, ModelOptions)
    manifest = evaluation.read_scores(
        labels, image=image, mos=mos, folder=folder, lower_is_better=True if lower_is_better else None
    )
    manifest = manifest.subset(split) if split else manifest
    metric = options.load()
    with console.progress("Scoring", len(manifest), unit="images") as move:
        found = evaluation.evaluate(metric, manifest, exif=not options.no_exif, progress=move)
    pairs = [(float(score), item.mos) for item, score in found.scores]
    intervals = {name: _interval(pairs, name) for name in _SHOWN if getattr(found.correlations, name) is not None}
    if output:
        found.save(output)
    if scatter:
        _FILES.write(scatter, drawn(pairs, f"{found.name}: {found.n} pictures, {metric.info['model']}"))
    if as_json:
        console.write(to_json({**found.as_dict(), "intervals": intervals}, 2) + "\n")
    else:
        _show(found, intervals, pairs)
    for item, error in found.failed:
        said = about(item.image, error) if isinstance(error, QSiTError) else f"{item.image}: {error}"
        console.say(f"failed: {said}", "red")
    return FAILED if found.failed else 0


def _interval(pairs: Sequence[tuple[float, float]], name: str) -> tuple[float, float] | None:
    from ..evaluation import UndefinedError, bootstrap_interval

    try:
        return bootstrap_interval([score for score, _ in pairs], [mos for _, mos in pairs], name)
    except UndefinedError:
        return None


def _show(found: Any, intervals: dict[str, tuple[float, float] | None], pairs: Sequence[tuple[float, float]]) -> None:
    rows = []
    for name in _SHOWN:
        value, between = getattr(found.correlations, name), intervals.get(name)
        shown = f"{value:.4f}" if value is not None else found.correlations.undefined[name]
        rows.append((name.upper(), shown, f"{between[0]:.4f} to {between[1]:.4f}" if between else ""))
    out = console.out()
    out.print(console.table((f"{found.name}, {found.n} pictures", ">value", "95 % interval"), rows))
    for line in in_text(pairs):
        out.print(Text(line), soft_wrap=True)


def in_text(pairs: Sequence[tuple[float, float]], width: int = _WIDTH, height: int = _HEIGHT) -> list[str]:
    r"""A scatter in characters: scores to the right, labels upwards; a digit counts pictures, + is ten or more.

    Example:
        >>> print("\n".join(in_text([(1.0, 10.0), (5.0, 50.0), (5.0, 50.0)], 9, 3)))
         50 |        2
            |
         10 |1
            +---------
             1 score 5
    """
    if not pairs:
        return []
    low, high = min(mos for _, mos in pairs), max(mos for _, mos in pairs)
    cells: dict[tuple[int, int], int] = {}
    for score, mos in pairs:
        place = _step(mos, low, high, height), _step(score, 1.0, 5.0, width)
        cells[place] = cells.get(place, 0) + 1
    names = {height - 1: f"{high:.4g}", 0: f"{low:.4g}"}
    margin = max(map(len, names.values())) + 1
    lines = []
    for row in reversed(range(height)):
        counts = (cells.get((row, column), 0) for column in range(width))
        signs = "".join(" " if not count else str(count) if count < 10 else "+" for count in counts)
        lines.append(f"{names.get(row, ''):>{margin}} |{signs}".rstrip())
    axis = f"{' ' * margin}  1{'score':^{max(width - 2, 5)}}5"
    return [*lines, f"{' ' * margin} +{'-' * width}", axis]


def _step(value: float, low: float, high: float, steps: int) -> int:
    share = (value - low) / (high - low) if high > low else 0.5
    return min(max(int(share * steps), 0), steps - 1)


def drawn(pairs: Sequence[tuple[float, float]], title: str) -> str:
    """A scatter as SVG: scores to the right, people's scores upwards."""
    from jinja2 import Environment, FileSystemLoader

    low, high = (min(mos for _, mos in pairs), max(mos for _, mos in pairs)) if pairs else (0.0, 1.0)
    high = high if high > low else low + 1
    ticks = [low + (high - low) * step / 4 for step in range(5)]
    place = Environment(loader=FileSystemLoader(Path(__file__).parent / "page"), autoescape=True)
    return place.get_template("scatter.svg").render(pairs=pairs, title=title, low=low, high=high, ticks=ticks)
