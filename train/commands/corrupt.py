"""`train corrupt`: distort one picture or a folder of them (paper Sec. III-B1).

The pictures are written as they were distorted: into a folder always as PNG, so that no second distortion comes from
the file format.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from qsit_metric import console
from qsit_metric.errors import QSiTError, counted

from ..data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from ..data.rows import Refusals
from ..errors import FILES, DataError

LIST_NAME = "corruptions.jsonl"
_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_FORMATS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}  # those that keep every value


@dataclass(frozen=True)
class Job:
    """Distortion of one picture.

    Attributes:
        source: Path of the original below the input.
        image: Path of the result below the output.
        kind: One of the fifteen.
        severity: 1..5.
        seed: Of this picture, so that pictures of one run do not share their noise.
    """

    source: str
    image: str
    kind: str
    severity: int
    seed: int


def corrupt_command(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A picture, or a folder of pictures.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A lossless file for one result, else a folder.")],
    kind: Annotated[
        str, typer.Option("--kind", help="Name of a distortion, `all`, or `random` (one each).")
    ] = "random",
    severity: Annotated[
        int | None, typer.Option("--severity", min=1, max=5, help="1..5; without it `random` draws, `all` makes five.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal pictures.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace results that are there already.")] = False,
    drop_refused: Annotated[
        bool, typer.Option("--drop-refused", help="Leave out pictures that cannot be used.")
    ] = False,
) -> None:
    """Distort pictures in fifteen ways at five severities."""
    names = _names(source)
    jobs = plan(names, kind, severity, seed, nested=source.is_dir() or kind == "all")
    if not source.is_dir() and kind != "all":
        _say(_run([(jobs[0], source, target)], Refusals(), force), target, Refusals())
        return
    listing = target / LIST_NAME
    taken = [(job, source / job.source if source.is_dir() else source, target / job.image) for job in jobs]
    _refuse_existing([listing, *(path for _, _, path in taken)], force)
    refusals = Refusals()
    done = _run(taken, refusals, force)
    refusals.check(source, drop_refused)
    lines = "".join(json.dumps(asdict(job), ensure_ascii=False, sort_keys=True) + "\n" for job in done)
    FILES.write(listing, lines.encode())
    _say(done, target, refusals)


def _say(done: Sequence[Job], target: Path, refusals: Refusals) -> None:
    """Say where the pictures are, how many of each distortion, and what was left out, which stands in no file."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(Counter(job.kind for job in done).items()))
    console.say(console.printable(f"Wrote {counted(len(done), 'picture')} to {target}: {kinds or 'none'}."))
    if refusals.reasons:
        shown = "; ".join(refusals.reasons)
        console.say(console.printable(f"Refused {counted(len(refusals), 'picture')}: {shown}"), "yellow")


def plan(names: Sequence[str], kind: str, severity: int | None, seed: int, nested: bool = True) -> list[Job]:
    """Decide what is done to which picture. Pure.

    Args:
        names: Paths of the pictures below the input.
        kind: One of the fifteen, "all", or "random" for one of them per picture.
        severity: 1..5, or None: drawn for "random", all five for "all".
        seed: Any whole number of 0 or more; what happens to a picture depends on it and on the picture's name only.
        nested: Results go into a folder, under names of their own.

    Raises:
        DataError: An unknown kind, no severity for a named kind, or two pictures that would get one name.

    Example:
        >>> [job] = plan(["a/b.jpg"], "fog", 3, seed=0)
        >>> job.image, job.kind, job.severity
        ('a/b.png', 'fog', 3)
    """
    if kind not in (*CORRUPTIONS, "all", "random"):
        raise DataError.about("kind", kind, f"all, random or one of {', '.join(CORRUPTIONS)}")
    if severity is None and kind in CORRUPTIONS:
        raise DataError.about("severity", severity, "a whole number from 1 to 5", "Pass --severity.")
    jobs = [job for name in names for job in _jobs(name, kind, severity, seed)]
    seen: dict[str, str] = {}
    for job in jobs if nested else []:
        if (other := seen.setdefault(job.image.lower(), job.source)) != job.source:
            raise DataError.about(
                "INPUT", job.source, f"a name that does not clash with {other!r}", "Rename one of them."
            )
    return jobs


def _jobs(name: str, kind: str, severity: int | None, seed: int) -> Iterator[Job]:
    own = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()[:4], "big")
    stem = name[: -len(Path(name).suffix)]
    if kind == "all":
        for one in CORRUPTIONS:
            for level in SEVERITIES if severity is None else (severity,):
                yield Job(name, f"{stem}.{one}.{level}.png", one, level, own)
        return
    rng = np.random.default_rng(own)
    drawn, level = CORRUPTIONS[rng.integers(len(CORRUPTIONS))], int(rng.integers(1, 6))
    yield Job(name, f"{stem}.png", drawn if kind == "random" else kind, severity or level, own)


def _names(source: Path) -> list[str]:
    if source.is_file():
        return [source.name]
    if not source.is_dir():
        raise DataError.about("INPUT", str(source), "a picture or a folder that exists")
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not found:
        raise DataError.about("INPUT", str(source), f"a folder with pictures ({', '.join(_SUFFIXES)})")
    return [path.relative_to(source).as_posix() for path in found]


def _refuse_existing(paths: Sequence[Path], force: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not force:
        what = f"{there[0]}" + (f" and {len(there) - 1} more" if len(there) > 1 else "")
        raise DataError.about("OUTPUT", what, "files that do not exist yet", "Pass --force to replace them.")


def _run(taken: Sequence[tuple[Job, Path, Path]], refusals: Refusals, force: bool) -> list[Job]:
    """Distort and write; one picture that cannot be used does not stop the others of a folder."""
    _refuse_existing([path for _, _, path in taken], force)
    done = []
    for job, original, result in console.track(taken, "Distorting"):
        try:
            content = _distorted(original, job, result)
        except QSiTError as error:
            if len(taken) == 1:
                raise
            refusals.add(f"{job.source}: {error}")
            continue
        FILES.write(result, content)
        done.append(job)
    return done


def _distorted(original: Path, job: Job, result: Path) -> bytes:
    from qsit_metric.pixels import load

    coded = _FORMATS.get(result.suffix.lower())
    if coded is None:
        hint = "A lossy format would add a distortion of its own."
        raise DataError.about("OUTPUT", str(result), f"a file in {', '.join(_FORMATS)}", hint)
    picture = load(original).pixels
    if not isinstance(picture, Image.Image):
        raise DataError.about("INPUT", str(original), "a picture file")
    stream = io.BytesIO()
    corrupt(picture, job.kind, job.severity, job.seed).save(stream, coded)
    return stream.getvalue()
