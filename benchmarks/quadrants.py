"""Measurement of whether the quality map finds the quadrant that was degraded.

    python -m benchmarks.quadrants MODEL [--photos FOLDER] -o OUT
    python -m benchmarks.quadrants MODEL --figure docs/images/map.png

One quadrant of each photograph is degraded in one of KADID-10k's ways, cut sharply at its edges. The map finds it if
its mean over that quadrant is the lowest of the four. Some of KADID-10k's middle levels are hardly seen, so what is
asked for is counted over the ways that its viewers found worse than fair (a mean below 3); the others stand beside
them. Without a folder the photographs are those of scikit-image that no model here was trained on. Results come as
OUT/quadrants.csv, .json and .md, and OUT/quadrants-cases.csv has each case; equal seeds give equal cases.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, cast

import typer
from PIL import Image

from benchmarks.nano.pictures import photographs
from benchmarks.nano.training import distort, mean_mos
from benchmarks.nano.training import photographs as own
from benchmarks.options import app_of
from benchmarks.output import Table, markdown, save
from benchmarks.statistics import wilson
from qsit_metric import QSiT, QualityMap, console
from qsit_metric.evaluation.loop import write_results
from qsit_metric.pixels import load

KINDS = (
    "gaussian_blur", "lens_blur", "motion_blur", "white_noise", "impulse_noise", "multiplicative_noise",
    "jpeg", "jpeg2000", "pixelate",
)  # fmt: skip
"""Degradations that a part of a picture can have for itself; a colour cast or a tone is seen beside the rest only."""

LEVELS = (3, 4, 5)
FAIR = 3.0
NAMES = ("upper left", "upper right", "lower left", "lower right")
TARGET = 0.9  # over what people find worse than fair
_RESULTS = Path(__file__).resolve().parent / "results" / "quadrants"
_FIGURE = ("rocket", "gaussian_blur", 5, 2)  # public domain, never trained on


@dataclass(frozen=True)
class Case:
    """A photograph with one degraded quadrant.

    Attributes:
        photograph: Its name.
        kind: Degradation.
        level: 1 to 5.
        quadrant: Its place in `NAMES`.
    """

    photograph: str
    kind: str
    level: int
    quadrant: int

    @property
    def people(self) -> float:
        """Mean score, 1 to 5, that people gave to pictures which were degraded so as a whole."""
        return mean_mos(self.kind, self.level)

    def picture(self, whole: Image.Image) -> Image.Image:
        """The degraded photograph; what is random depends on the photograph alone."""
        box = quadrants(*whole.size)[self.quadrant]
        degraded = distort(whole.crop(box), self.kind, self.level, zlib.crc32(self.photograph.encode()))
        picture = whole.copy()
        picture.paste(degraded, box[:2])
        return picture


@dataclass(frozen=True)
class Found:
    """What a map says of a case.

    Attributes:
        case: The case.
        means: Of the map over each quadrant, in the order of `NAMES`.
        worst: Quadrant in which the middle of the worst window lies.
        score: The whole picture's.
    """

    case: Case
    means: tuple[float, float, float, float]
    worst: int
    score: float

    @property
    def hit(self) -> bool:
        """Whether the degraded quadrant has the lowest mean."""
        return min(range(4), key=self.means.__getitem__) == self.case.quadrant


def quadrants(width: int, height: int) -> tuple[tuple[int, int, int, int], ...]:
    """(left, top, right, bottom) of each, in the order of `NAMES`."""
    x, y = width // 2, height // 2
    return (0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)


def cases(
    names: Sequence[str], kinds: Sequence[str] = KINDS, levels: Sequence[int] = LEVELS, seed: int = 0
) -> list[Case]:
    """Every photograph in every way; each quadrant gets a quarter of a photograph's cases, but for the rest."""
    found = []
    for name in names:
        start = zlib.crc32(f"{name} {seed}".encode())
        ways = [(kind, level) for kind in kinds for level in levels]
        found += [Case(name, kind, level, (start + place) % 4) for place, (kind, level) in enumerate(ways)]
    return found


def look(found: QualityMap, case: Case) -> Found:
    """Compare the quadrants of a map."""
    pixels, (width, height) = found.resized(), found.size
    boxes = quadrants(width, height)
    upper_left, upper_right, lower_left, lower_right = (
        float(pixels[top:bottom, left:right].mean()) for left, top, right, bottom in boxes
    )
    across, down = (found.worst.left + found.worst.right) / 2, (found.worst.top + found.worst.bottom) / 2
    worst = 2 * (down >= height // 2) + (across >= width // 2)
    return Found(case, (upper_left, upper_right, lower_left, lower_right), worst, float(found.score))


def measure(
    metric: QSiT,
    wanted: Sequence[Case],
    read: Callable[[str], Image.Image],
    window: int | None = None,
    stride: int | None = None,
) -> Iterator[Found]:
    """Map every case, in order.

    Args:
        metric: Whose maps they are.
        wanted: The cases.
        read: Name -> photograph in mode RGB, sides of 128 pixels or more.
        window: See `QSiT.map`.
        stride: See `QSiT.map`.
    """
    for case in wanted:
        yield look(metric.map(case.picture(read(case.photograph)), window=window, stride=stride), case)


def share(found: Sequence[Found]) -> float:
    """Share of cases in which the degraded quadrant is the lowest."""
    return sum(one.hit for one in found) / len(found)


def table(found: Sequence[Found], made: Mapping[str, object]) -> Table:
    """The shares by degradation and level, over what people find worse than fair, and over all."""
    groups: dict[tuple[str, int], list[Found]] = {}
    for one in found:
        groups.setdefault((one.case.kind, one.case.level), []).append(one)
    rows = [_row(kind, level, group, group[0].case.people) for (kind, level), group in groups.items()]
    seen = [one for one in found if one.case.people < FAIR]
    notes = (f"People: the mean score of KADID-10k's viewers for that degradation. {_asked(seen)} Chance is 25%.",)
    if seen:
        rows.append(_row("worse than fair to people", None, seen))
    return Table(
        "quadrants", "The degraded quadrant has the lowest local score", tuple(rows[0]),
        (*rows, _row("all", None, found)), notes=notes, made=made, formats={"found": ".1%", "worst window": ".1%"},
    )  # fmt: skip


def _asked(seen: Sequence[Found]) -> str:
    """Whether the target is met, and how sure that is."""
    if not seen:
        return "Nothing here is worse than fair to people."
    met = "met" if share(seen) >= TARGET else "not met"
    low, high = wilson(sum(one.hit for one in seen), len(seen))
    return f"Asked for: {TARGET:.0%} of what people find worse than fair, {met} (95% interval {low:.1%} to {high:.1%})."


def _row(kind: str, level: int | None, found: Sequence[Found], people: float | None = None) -> dict[str, object]:
    gaps = [sum(one.means) / 3 - one.means[one.case.quadrant] * 4 / 3 for one in found]
    return {
        "degradation": kind, "level": level, "people": people, "n": len(found), "found": share(found),
        "worst window": sum(one.worst == one.case.quadrant for one in found) / len(found),
        "others minus quadrant": sum(gaps) / len(gaps),
    }  # fmt: skip


def _case_row(one: Found) -> dict[str, object]:
    named = {"quadrant": NAMES[one.case.quadrant], "found": one.hit, "worst": NAMES[one.worst], "score": one.score}
    return {**asdict(one.case), **named, **dict(zip(NAMES, one.means, strict=True))}


def figure(metric: QSiT) -> Image.Image:
    """A photograph with a degraded quadrant, and its map beside it."""
    name, kind, level, quadrant = _FIGURE
    picture = Case(name, kind, level, quadrant).picture(own.load(name))
    drawn = metric.map(picture).overlay()
    sheet = Image.new("RGB", (picture.width + 8 + drawn.width, drawn.height), (255, 255, 255))
    sheet.paste(picture, (0, 0))
    sheet.paste(drawn, (picture.width + 8, 0))
    return sheet


def main(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint folder or a catalog name.")],
    photos: Annotated[
        Path | None, typer.Option("--photos", metavar="FOLDER", help="Photographs (default: scikit-image's).")
    ] = None,
    images: Annotated[int, typer.Option("--images", min=0, help="Take the first N photographs; 0: all.")] = 0,
    window: Annotated[int | None, typer.Option("--window", metavar="N", help="As for `qsit map`.")] = None,
    stride: Annotated[int | None, typer.Option("--stride", metavar="N", help="As for `qsit map`.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the quadrants.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Gets the results.")] = _RESULTS,
    drawing: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Draw the figure of the docs instead.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="A torch device.")] = "cpu",
) -> None:
    """Degrade quadrants of photographs and see whether the quality map finds them."""
    names = photographs(photos) if photos else own.names("held_out")
    names = names[: images or None]
    metric = QSiT(model, device=device)
    if drawing:
        drawing.parent.mkdir(parents=True, exist_ok=True)
        figure(metric).save(drawing, optimize=True)
        console.say(f"{drawing}: drawn")
        return
    wanted = cases(names, seed=seed)
    found = list(console.track(measure(metric, wanted, _reader(photos), window, stride), "maps", len(wanted)))
    info = {key: value for key, value in metric.info.items() if value is not None}
    made = {**info, "photographs": len(names), "window": window, "stride": stride, "seed": seed}
    result = table(found, made)
    save(result, output)
    write_results(output / "quadrants-cases.csv", {}, [_case_row(one) for one in found])
    console.write(markdown(result))


def _reader(photos: Path | None) -> Callable[[str], Image.Image]:
    if photos is None:
        return own.load

    def read(name: str) -> Image.Image:
        return cast("Image.Image", load(photos / name).pixels)  # files are never tensors

    return read


if __name__ == "__main__":
    app_of(main)()
