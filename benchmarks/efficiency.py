"""This package against the authors' flow: how much better, and whether it gives the same.

    python -m benchmarks.efficiency                                    # mini, bfloat16, CPU
    python -m benchmarks.efficiency --device cuda --dtype float16 --shape 7b
    python -m benchmarks.efficiency --against ../other --shape mini --dtype float32    # against another checkout
    python -m benchmarks.efficiency --quick-run 0.8b    # the general backend against Q-ReAlign's published lines

Both flows run in one process in turn; memory is measured in a process for each. `ratio` says how many times better than
the authors' flow ours is (less time, less memory, more pictures a second). Results land in a CSV after every task.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from benchmarks.cost.child import Checkout, in_child
from benchmarks.cost.clock import Rounds, interleaved, memory_of, peak_tflops
from benchmarks.cost.counting import tflop
from benchmarks.cost.flows import Authors, Ours, Result
from benchmarks.cost.mixed import LARGEST, SMALLEST, apart, compare, photo
from benchmarks.cost.models import (
    DTYPES,
    SHAPES,
    as_transformers,
    build_backend,
    build_network,
    dialogue,
    save_checkpoint,
    stored_geometry,
)
from benchmarks.cost.quick_run import SHAPES as QUICK_SHAPES
from benchmarks.cost.quick_run import InParts, QuickRun, build
from benchmarks.cost.report import RESULTS, Report, Row, compared, conditions, measured, timed
from benchmarks.options import app_of, listed, sides
from qsit_metric import console
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend

KINDS = ("pixels", "memory", "score", "session", "throughput")  # in the order in which they run
PIXEL_TARGETS = {"1024x768": 5.0, "4000x3000": 4.0}
TARGETS = {"score": 1 / 1.05, "session": 3.5, "memory": 1.0}  # for models of a real size
BFLOAT16_TARGETS = {"score": 2.0, "session": 6.0}  # on processors that multiply bfloat16
CUDA_TARGETS = {"session": 4.0, "throughput": 5.0, "memory": 1.0}
QUICK_TARGETS = {"throughput": {"cpu": 2.0, "cuda": 3.0}, "session": {"cpu": 3.0, "cuda": 3.0}}
RIVAL = {"q-sit-nano": 1.5}  # pictures a second to those of another checkout; other models are not to be slower
_PIXEL_REPEATS = 7  # times those of the other tasks: a picture takes milliseconds
_MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}

Task = tuple[str, Callable[[], list[Row]]]


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    device: torch.device
    dtype: str
    shape: str
    sizes: tuple[str, ...]
    repeats: int
    kinds: tuple[str, ...]
    batches: tuple[int, ...]
    images: int


class Bench:
    """Both flows around one model, which is built when the first task needs it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def tasks(self) -> Iterator[Task]:
        """Every task with its label, memory before anything large is loaded here."""
        kinds, sizes = self.settings.kinds, self.settings.sizes
        for kind in (kind for kind in KINDS if kind in kinds):
            for size in dict.fromkeys([*sizes, *PIXEL_TARGETS]) if kind == "pixels" else sizes:
                yield f"{kind} {size}", lambda kind=kind, size=size: getattr(self, kind)(size)  # type: ignore[misc]

    def pixels(self, size: str) -> list[Row]:
        """From a decoded picture to what the vision tower reads."""
        image, authors, ours = photo(*sides(size)), Authors(), Ours()
        flows = {"authors": lambda: authors.pixels(image), "ours": lambda: ours.pixels(image)}
        repeats = self.settings.repeats * (1 if self.settings.shape == "tiny" else _PIXEL_REPEATS)
        rounds = interleaved(flows, repeats, torch.device("cpu"))
        rows = timed("pixels", size, rounds)
        rows[1].gap = float((rounds.first["authors"] - rounds.first["ours"]).abs().max())
        rows[1].target = PIXEL_TARGETS.get(size)
        return rows

    def memory(self, size: str) -> list[Row]:
        """Peak memory of a score and four questions, each flow in a fresh process."""
        s, rows = self.settings, []
        for flow in ("authors", "ours"):
            place = "benchmarks.efficiency:session_memory"
            before, peak = in_child(place, flow, str(s.device), s.dtype, s.shape, size, torch.get_num_threads())
            rows.append(measured("memory", size, flow, [peak], unit="MiB"))
            rows[-1].baseline = before
        return self._aimed(compared(rows), "memory")

    def score(self, size: str) -> list[Row]:
        """One score."""
        image, (authors, ours) = photo(*sides(size)), self._flows
        return self._timed("score", size, {"authors": lambda: authors.score(image), "ours": lambda: ours.score(image)})

    def session(self, size: str) -> list[Row]:
        """A score and four questions of eight new tokens; ours with the picture opened once, and with two calls."""
        image, (authors, ours) = photo(*sides(size)), self._flows
        flows = {
            "authors": lambda: authors.session(image),
            "ours": lambda: ours.session(image),
            "ours, two calls": lambda: ours.two_calls(image),
        }
        return self._timed("session", size, flows)

    def throughput(self, size: str) -> list[Row]:
        """Scores of JPEG files and of decoded pictures, ours in batches, and the share of the device's matrix peak."""
        s, (authors, ours) = self.settings, self._flows
        with tempfile.TemporaryDirectory() as folder:
            paths = _jpegs(Path(folder), sides(size), max(s.images, 2 * max(s.batches)))
            few = paths[: max(2, s.images // 4)]
            flows = {"authors": lambda: authors.files(few)}
            decoded = [Image.open(path).convert("RGB") for path in paths]
            ways = [(name, batch) for name in ("ours", "ours, decoded") for batch in s.batches]
            for name, batch in ways:
                flows[f"{name} {batch}"] = partial(ours.many, paths if name == "ours" else decoded, batch)
            rounds = interleaved(flows, s.repeats, s.device)
        rows = [_rates(size, "authors", len(few), rounds)]
        for name, batch in ways:
            rows.append(_rates(size, f"{name} {batch}", len(paths), rounds))
            rows[-1].flow, rows[-1].batch = name, batch
        if goal := self._goal("throughput"):
            max(compared(rows)[1:], key=lambda row: row.ratio).target = goal
        return self._of_peak(compared(rows), size)

    @cached_property
    def _flows(self) -> tuple[Authors, Ours]:
        s = self.settings
        network = build_network(SHAPES[s.shape], DTYPES[s.dtype], s.device)
        authors = Authors(as_transformers(network))
        return authors, Ours(LlavaOnevisionBackend(network.fuse(), *dialogue(), stored_geometry()))

    @cached_property
    def _peak(self) -> float:
        s = self.settings
        side = 512 if s.shape == "tiny" else _MATMUL_SIDE.get(s.device.type, 2048)
        return peak_tflops(s.device, DTYPES[s.dtype], side)

    def _timed(self, kind: str, size: str, flows: dict[str, Callable[[], Result]]) -> list[Row]:
        rounds = interleaved(flows, self.settings.repeats, self.settings.device)
        rows = timed(kind, size, rounds)
        for row in rows[1:]:
            agree(row, rounds.first["authors"], rounds.first[row.flow])
        return self._aimed(rows, kind)

    def _aimed(self, rows: list[Row], kind: str) -> list[Row]:
        """Set the target of our main flow."""
        rows[1].target = self._goal(kind)
        return rows

    def _goal(self, kind: str) -> float | None:
        """Least ratio that is asked for on this machine; a toy model has none."""
        if self.settings.shape == "tiny":
            return None
        if self.settings.device.type == "cuda":
            return CUDA_TARGETS.get(kind)
        quick = self.settings.dtype == "bfloat16" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return (BFLOAT16_TARGETS if quick else {}).get(kind, TARGETS.get(kind))

    def _of_peak(self, rows: list[Row], size: str) -> list[Row]:
        image, (_, ours) = photo(*sides(size)), self._flows
        cost = tflop(lambda: ours.score(image))
        for row in rows:
            row.tflop, row.peak_tflops = cost, self._peak
            row.share_of_peak = cost * row.median / self._peak
        return rows


def session_memory(flow: str, device: str, dtype: str, shape: str, size: str, threads: int) -> tuple[float, float]:
    """MiB with the model loaded, and the most while it scores a picture and answers all questions, in this process."""
    torch.set_num_threads(threads)
    given = SHAPES[shape], DTYPES[dtype], torch.device(device)
    runner = Authors(as_transformers(build_network(*given))) if flow == Authors.name else Ours(build_backend(*given))
    found = memory_of(lambda: runner.session(photo(*sides(size))), torch.device(device), fresh=True)
    return found or (math.nan, math.nan)


def compared_with(
    rival: Checkout, model: str, device: str, dtype: str, images: int, repeats: int, threads: int
) -> list[Row]:
    """Pictures a second and peak memory of both checkouts on photographs of many sizes, the rival first."""
    with tempfile.TemporaryDirectory() as folder:
        name = str(Path(model).resolve()) if Path(model).is_dir() else model
        if model in SHAPES:
            name = str(save_checkpoint(SHAPES[model], DTYPES[dtype], Path(folder) / model))
        settings = {"device": device, "dtype": dtype, "images": images, "repeats": repeats, "threads": threads}
        theirs, ours = compare(name, [rival, Checkout()], **settings)  # type: ignore[arg-type]
    sizes = "x".join(map(str, SMALLEST)) + "-" + "x".join(map(str, LARGEST))
    flows = {rival.name: theirs, "ours": ours}
    rates = [measured(f"mixed, {model}", sizes, n, one.rates, unit="images/s") for n, one in flows.items()]
    peaks = [measured(f"memory, {model}", sizes, n, [one.peak], unit="MiB") for n, one in flows.items()]
    for row in (*rates, *peaks):
        row.batch = images
    rates[1].gap, rates[1].target, peaks[1].target = apart(theirs.scores, ours.scores), RIVAL.get(model, 1.0), 1.0
    return [*compared(rates), *compared(peaks)]


def quick_run(shape: str, device: str, dtype: str, size: str, batch: int, repeats: int) -> Iterator[list[Row]]:
    """Pictures a second in batches, then a score with four questions, beside Q-ReAlign's published lines."""
    place = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        parts = build(shape, DTYPES[dtype], place, Path(folder))
    theirs, ours = QuickRun(*parts), InParts(*parts)
    pictures = [photo(*sides(size), seed=number) for number in range(batch)]
    few = pictures[: max(1, batch // 7)]
    rounds = interleaved(
        {theirs.name: lambda: theirs.many(few), ours.name: lambda: ours.many(pictures, batch)}, repeats, place
    )
    counts = {theirs.name: len(few), ours.name: len(pictures)}
    rows = [
        measured("quick run, throughput", size, name, [count / t for t in rounds.times[name]], unit="images/s")
        for name, count in counts.items()
    ]
    rows[1].batch, rows[1].gap = batch, apart(rounds.first[theirs.name], rounds.first[ours.name][: len(few)])
    yield _quick_goal(rows, rounds.others, "throughput", shape, place)
    sessions = interleaved(
        {theirs.name: lambda: theirs.session(pictures[0]), ours.name: lambda: ours.session(pictures[0])}, repeats, place
    )
    rows = timed("quick run, session", size, sessions)
    agree(rows[1], sessions.first[theirs.name], sessions.first[ours.name])
    yield _quick_goal(rows, sessions.others, "session", shape, place)


def _quick_goal(rows: list[Row], others: float | None, kind: str, shape: str, place: torch.device) -> list[Row]:
    for row in rows:
        row.others = others
    rows[1].target = None if shape == "tiny" else QUICK_TARGETS[kind].get(place.type)
    return compared(rows)


def _rates(size: str, name: str, count: int, rounds: Rounds[list[float]]) -> Row:
    """Pictures a second, and how far the scores of the first pictures are from the authors'."""
    row = measured("throughput", size, name, [count / t for t in rounds.times[name]], unit="images/s")
    row.others = rounds.others
    if name != "authors":
        row.gap = max(abs(a - b) for a, b in zip(rounds.first["authors"], rounds.first[name], strict=False))
    return row


def agree(row: Row, theirs: Result, ours: Result) -> None:
    """Note how far a flow's results are from the authors'."""
    row.gap = abs(theirs.score - ours.score)
    pairs = [
        (a, b)
        for left, right in zip(theirs.answers, ours.answers, strict=True)
        for a, b in zip(left, right, strict=True)
    ]
    row.same_tokens = math.fsum(a == b for a, b in pairs) / len(pairs) if pairs else None


def _jpegs(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        photo(*size, seed=number).save(path, quality=90)
    return paths


_BATCHES = {"cuda": "1,2,4,8,16,32"}
_IMAGES = {"cuda": 64}
_MIXED = 32
_QUICK_BATCH = 14  # the batch of their own figure on an H200


def main(
    *,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "bfloat16",
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}; tiny is for a smoke run.")] = "mini",
    sizes: Annotated[str, typer.Option(help="Picture sizes, width x height.")] = "512x384,1024x768",
    repeats: Annotated[int, typer.Option(min=1, help="Measured rounds of both flows.")] = 3,
    what: Annotated[str, typer.Option(help="Which measurements.")] = ",".join(KINDS),
    batches: Annotated[str, typer.Option(help="Batch sizes of the throughput.")] = "",
    images: Annotated[int, typer.Option(help="Files of the throughput; 0 takes what suits the device.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    output: Annotated[Path | None, typer.Option(help="The CSV; it is replaced.")] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Another checkout: compare photographs of many sizes with it, and nothing else."),
    ] = None,
    quick: Annotated[
        str | None,
        typer.Option(
            "--quick-run",
            help=f"One of {', '.join(QUICK_SHAPES)}: the general backend beside Q-ReAlign's published lines on a "
            "random model of that shape, at the first of --sizes, and nothing else.",
        ),
    ] = None,
    python: Annotated[str, typer.Option(help="Interpreter of the other checkout.")] = sys.executable,
    models: Annotated[
        str, typer.Option(help="Of that comparison: names, folders, or shapes (random weights).")
    ] = "q-sit-nano,mini",
) -> None:
    """Measure this package against the authors' flow and say which targets are met."""
    if threads:
        torch.set_num_threads(threads)
    place = torch.device(device)
    if against is not None:
        rival, named = Checkout(against, python), listed(models)
        path = output or RESULTS / f"efficiency-against-{rival.name}-{place.type}-{dtype}.csv"
        report = Report(path, conditions(place, dtype, ", ".join(named)))
        for model in named:
            report.add(compared_with(rival, model, str(place), dtype, images or _MIXED, repeats, threads))
        report.show()
        return
    if quick is not None:
        shape = _one_of(quick, QUICK_SHAPES, "--quick-run")
        report = Report(
            output or RESULTS / f"efficiency-quick-run-{place.type}-{shape}-{dtype}.csv",
            conditions(place, dtype, shape),
        )
        at_once = int(listed(batches or str(_QUICK_BATCH))[0])
        for rows in quick_run(shape, str(place), dtype, listed(sizes)[0], at_once, repeats):
            report.add(rows)
        report.show()
        return
    settings = Settings(
        device=place,
        dtype=_one_of(dtype, DTYPES, "--dtype"),
        shape=_one_of(shape, SHAPES, "--shape"),
        sizes=tuple(text for text in listed(sizes) if sides(text)),
        repeats=repeats,
        kinds=tuple(_one_of(kind, KINDS, "--what") for kind in listed(what)),
        batches=tuple(int(text) for text in listed(batches or _BATCHES.get(place.type, "1,2"))),
        images=images or _IMAGES.get(place.type, 4),
    )
    path = output or RESULTS / f"efficiency-{place.type}-{shape}-{dtype}.csv"
    run(settings, Report(path, conditions(place, dtype, shape)))


def run(settings: Settings, report: Report) -> None:
    """Do all tasks, writing as they finish, and print the table."""
    for label, task in console.track(list(Bench(settings).tasks()), "measured"):
        console.say(f"{label} ...", "dim")
        report.add(task())
    report.show()


def _one_of(value: str, known: Collection[str], option: str) -> str:
    if value not in known:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(known)}", param_hint=option)
    return value


if __name__ == "__main__":
    app_of(main)()
