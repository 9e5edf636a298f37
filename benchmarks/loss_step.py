"""What a training step with `QSiTLoss` costs in time and memory, under each of its memory options.

    python -m benchmarks.loss_step                               # q-sit-nano measured; it, mini and 7b computed
    python -m benchmarks.loss_step --measure mini --device cuda --dtype float16    # the real shape, random weights

Measured: a step of a network that repairs a picture (forward, L1 and QSiTLoss, backward, optimiser); the network is one
convolution, so that what the loss takes is seen. Times in turns, memory in a process for each option. Computed: the
loss alone, forward and backward, on tensors without memory (`benchmarks.cost.counting` says how), so that shapes of any
size can be had on any machine. Both stand in one CSV, with a page of the tables beside it.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from benchmarks.cost.child import in_child
from benchmarks.cost.clock import MIB, interleaved, memory_of
from benchmarks.cost.counting import count_step
from benchmarks.cost.models import (
    DTYPES,
    SHAPES,
    build_backend,
    dialogue,
    empty_network,
    shaped_config,
    stored_geometry,
)
from benchmarks.cost.report import RESULTS, Conditions, busy_note, conditions, csv_text
from benchmarks.options import app_of, listed, sides
from benchmarks.output import FILES
from qsit_metric import QSiT, QSiTLoss, console
from qsit_metric.backends.checkpoint import load_geometry, load_tokenizer
from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
from qsit_metric.hub import resolve
from qsit_metric.model.config import Config
from qsit_metric.prompts import AUTHORS, Prompt, Recipe

ALONE = "L1 alone"
OPTIONS: Mapping[str, dict[str, Any]] = {
    "as it is": {},
    "checkpointing": {"checkpointing": True},
    "max_tiles=2": {"max_tiles": 2},
    "crop": {"crop": True, "generator": 0},
    "max_tiles=2, checkpointing": {"max_tiles": 2, "checkpointing": True},
    "crop, checkpointing": {"crop": True, "generator": 0, "checkpointing": True},
}
"""The memory options that are compared."""

_SMALL = 160  # pixels; a step that loads the kernels and their libraries, before memory is looked at
# One arena that gives back at once what is freed, so that the resident set is what lives.
_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def load(model: str, device: torch.device, dtype: str) -> QSiT:
    """A model by name; "mini" and "7b" are the published shapes with random weights."""
    if model in SHAPES:
        return QSiT(build_backend(SHAPES[model], DTYPES[dtype], device))
    return QSiT(model, device=device, dtype=dtype)


def stepper(metric: QSiT, option: str, width: int, height: int) -> Callable[[], float]:
    """A function that makes one training step and gives its loss.

    Args:
        metric: The judge.
        option: A key of `OPTIONS`, or `ALONE`.
        width: Of the picture, in pixels.
        height: Likewise.
    """
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1).to(metric.device)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    criterion = None if option == ALONE else QSiTLoss(metric, 0.1, **OPTIONS[option])
    x, y = torch.rand(2, 1, 3, height, width, device=metric.device)

    def step() -> float:
        output = network(x)
        loss = (output - y).abs().mean()
        if criterion is not None:
            loss = loss + criterion(output)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.item())

    return step


def step_memory(model: str, device: str, dtype: str, option: str, size: str, threads: int) -> float | None:
    """Peak memory of a step beyond what the model and the libraries take, in MiB; of a process for it alone."""
    torch.set_num_threads(threads)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    metric = load(model, torch.device(device), dtype)
    stepper(metric, option, _SMALL, _SMALL)()
    found = memory_of(stepper(metric, option, *sides(size, "--size")), metric.device)
    return None if found is None else found.peak - found.before


@dataclass(frozen=True)
class Line:
    """One option of one model.

    Attributes:
        model: Its name; "mini" and "7b" are the published shapes.
        option: Memory option.
        how: "measured" (network, L1 and loss) or "computed" (the loss alone).
        dtype: Of the model.
        size: Width x height of the picture.
        tiles: That the vision tower reads.
        tokens: Image tokens that the language model reads.
        tflop: Operations of forward and backward, in 1e12.
        kept_mib: What the forward pass leaves for the backward pass.
        peak_mib: The largest moment, beyond model and libraries.
        seconds: Median time of a step.
        slowest: Longest.
        repeats: Measured steps.
        others: Cores that other processes kept busy meanwhile; times are only worth reading where it is near 0.
    """

    model: str
    option: str
    how: str
    dtype: str
    size: str
    tiles: int | None = None
    tokens: int | None = None
    tflop: float | None = None
    kept_mib: float | None = None
    peak_mib: float | None = None
    seconds: float | None = None
    slowest: float | None = None
    repeats: int | None = None
    others: float | None = None


def main(
    *,
    measure: Annotated[
        str, typer.Option(help="Models to measure: names, or mini and 7b for random weights.")
    ] = "q-sit-nano",
    compute: Annotated[str, typer.Option(help="Models to compute: q-sit-nano, mini, 7b.")] = "q-sit-nano,mini,7b",
    device: Annotated[str, typer.Option(help="Where steps are measured.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Type of the measured models.")] = "float32",
    size: Annotated[str, typer.Option(help="Picture, width x height.")] = "512x512",
    repeats: Annotated[int, typer.Option(min=1, help="Measured steps of each option.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for loss-step.csv and loss-step.md.")] = RESULTS,
) -> None:
    """Measure and compute the cost of a training step, and write both files."""
    output.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    if threads:
        torch.set_num_threads(threads)
    place = torch.device(device)
    lines = [line for model in listed(compute) for line in computed(model, _computed_dtype(model), size)]
    for model in listed(measure):
        lines += measured(model, place, dtype, size, repeats)
    made = conditions(place, dtype, measure)
    name = "loss-step" if place.type == "cpu" else f"loss-step-{place.type}"
    FILES.write(output / f"{name}.csv", to_csv(lines, made))
    FILES.write(output / f"{name}.md", to_page(lines, made))
    _show(lines)


def measured(model: str, device: torch.device, dtype: str, size: str, repeats: int) -> list[Line]:
    """Real steps: every option once unmeasured, then in turns."""
    width, height = sides(size, "--size")
    threads, names = torch.get_num_threads(), (ALONE, *OPTIONS)
    place = "benchmarks.loss_step:step_memory"
    peaks = {name: in_child(place, model, str(device), dtype, name, size, threads, more=_MEMORY) for name in names}
    metric = load(model, device, dtype)
    rounds = interleaved({name: stepper(metric, name, width, height) for name in names}, repeats, device)
    lines = []
    for name, times in rounds.times.items():
        line = Line(model, name, "measured", dtype, size, peak_mib=peaks[name], repeats=repeats, others=rounds.others)
        lines.append(replace(line, seconds=statistics.median(times), slowest=max(times)))
    return lines


def computed(model: str, dtype: str, size: str) -> list[Line]:
    """Counts for a shape."""
    width, height = sides(size, "--size")
    backend, prompt = shaped(model, dtype)
    lines = []
    for name, options in OPTIONS.items():
        memory = {key: value for key, value in options.items() if key in ("checkpointing", "max_tiles")}
        side = backend.geometry.tile if options.get("crop") else None
        cost = count_step(backend.leaner(**memory), prompt, side or width, side or height)
        line = Line(model, name, "computed", dtype, size, cost.tiles, cost.tokens, cost.tflop)
        lines.append(replace(line, kept_mib=cost.kept / MIB, peak_mib=cost.peak / MIB))
    return lines


def shaped(model: str, dtype: str) -> tuple[LlavaOnevisionBackend, Prompt]:
    """A backend without weights in a published shape or that of a folder, and its scoring prompt."""
    if model in SHAPES:
        config, recipe = Config.of(shaped_config(SHAPES[model])), AUTHORS
        said, geometry = dialogue(), stored_geometry()
    else:
        folder = resolve(model).folder
        config, recipe = Config.load(folder), Recipe.load(folder) or AUTHORS
        said, geometry = load_tokenizer(folder, None), load_geometry(folder)
    return LlavaOnevisionBackend(empty_network(config, DTYPES[dtype]), *said, geometry), recipe.scoring()


def to_csv(lines: Sequence[Line], made: Conditions) -> str:
    """All lines, each with the conditions."""
    told = {name: value for name, value in asdict(made).items() if name not in ("dtype", "shape")}
    return csv_text([asdict(line) for line in lines], told)


def to_page(lines: Sequence[Line], made: Conditions) -> str:
    """The same as tables for people."""
    parts = [f"# A training step with QSiTLoss, one picture of {lines[0].size}", ""]
    parts += ["Made by `python -m benchmarks.loss_step`, whose docstring says what is counted."]
    for group in dict.fromkeys((line.model, line.dtype, line.how) for line in lines):
        chosen = [line for line in lines if (line.model, line.dtype, line.how) == group]
        rows = _measured(chosen) if group[2] == "measured" else _computed(chosen)
        parts += ["", f"## {', '.join(group)}", "", *rows]
    told = f"{made.machine}; torch {made.torch}, transformers {made.transformers}; {made.date}."
    parts += ["", f"{told} {busy_note([line.others for line in lines])}".strip(), ""]
    return "\n".join(parts)


def _measured(lines: Sequence[Line]) -> list[str]:
    head = ["| option | peak memory, MiB | seconds (median) |", "|---|---:|---:|"]
    return head + [f"| {line.option} | {_number(line.peak_mib)} | {line.seconds:.3f} |" for line in lines]


def _computed(lines: Sequence[Line]) -> list[str]:
    head = ["| option | tiles | tokens | TFLOP | kept, MiB | peak, MiB |", "|---|---:|---:|---:|---:|---:|"]
    sizes = [f"{line.tflop:.3g} | {line.kept_mib:,.0f} | {line.peak_mib:,.0f}" for line in lines]
    return head + [
        f"| {line.option} | {line.tiles} | {line.tokens} | {size} |" for line, size in zip(lines, sizes, strict=True)
    ]


def _show(lines: Sequence[Line]) -> None:
    columns = ("model", "how", "option", ">tiles", ">TFLOP", ">kept MiB", ">peak MiB", ">seconds")
    rows = []
    for line in lines:
        numbers = (line.tiles, line.tflop, line.kept_mib, line.peak_mib, line.seconds)
        shown = ["" if number is None else f"{number:.4g}" for number in numbers]
        rows.append([line.model, line.how, line.option, *shown])
    console.out().print(console.table(columns, rows))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _computed_dtype(model: str) -> str:
    """Models that need a GPU run in half precision; the small one as it is measured on a CPU."""
    return "float16" if model in SHAPES else "float32"


if __name__ == "__main__":
    app_of(main)()
