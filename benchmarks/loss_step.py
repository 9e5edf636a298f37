"""What a training step with `QSiTLoss` costs in time and memory, under each of its memory options.

    python -m benchmarks.loss_step                               # q-sit-nano measured; it, mini and 7b computed
    python -m benchmarks.loss_step --measure mini --device cuda --dtype float16    # the real shape, random weights

Measured: a step of the smallest network (one convolution) with L1 and the loss; times in turns, memory in a process
for each option. Computed: the loss alone, forward and backward, on tensors without memory (`benchmarks._counting` says
how), so that shapes of any size can be had on any machine. Both stand in one CSV, with a page of the tables beside it.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks._counting import count_step, empty_model
from benchmarks._measure import MIB, interleaved
from benchmarks._model import DTYPES, SHAPES, dialogue, model_config, stored, stored_geometry
from benchmarks._report import Conditions, conditions
from benchmarks._step import ALONE, OPTIONS, load, peak_of_step, stepper
from qsit_metric.evaluation.files import write_atomic

if TYPE_CHECKING:
    from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
    from qsit_metric.prompts import Prompt

_RESULTS = Path(__file__).resolve().parent / "results"
_BUSY = 0.1  # cores


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
    output: Annotated[Path, typer.Option(help="Folder for loss-step.csv and loss-step.md.")] = _RESULTS,
) -> None:
    """Measure and compute the cost of a training step, and write both files."""
    output.mkdir(parents=True, exist_ok=True)  # before minutes of measuring
    if threads:
        torch.set_num_threads(threads)
    place = torch.device(device)
    lines = [line for model in _listed(compute) for line in computed(model, _computed_dtype(model), size)]
    for model in _listed(measure):
        lines += measured(model, place, dtype, size, repeats)
    made = conditions(place, dtype, measure)
    name = "loss-step" if place.type == "cpu" else f"loss-step-{place.type}"
    write_atomic(output / f"{name}.csv", to_csv(lines, made))
    write_atomic(output / f"{name}.md", to_page(lines, made))
    _show(lines)


def measured(model: str, device: torch.device, dtype: str, size: str, repeats: int) -> list[Line]:
    """Real steps: every option once unmeasured, then in turns."""
    width, height = _wh(size)
    threads, names = torch.get_num_threads(), (ALONE, *OPTIONS)
    peaks = {name: peak_of_step(model, str(device), dtype, name, size, threads) for name in names}
    metric = load(model, device, dtype)
    rounds = interleaved({name: stepper(metric, name, width, height) for name in names}, repeats, device)
    lines = []
    for name, times in rounds.times.items():
        line = Line(model, name, "measured", dtype, size, peak_mib=peaks[name], repeats=repeats, others=rounds.others)
        lines.append(replace(line, seconds=statistics.median(times), slowest=max(times)))
    return lines


def computed(model: str, dtype: str, size: str) -> list[Line]:
    """Counts for a shape."""
    width, height = _wh(size)
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
    from qsit_metric.backends.checkpoint import load_config, load_geometry, load_tokenizer
    from qsit_metric.backends.llava_onevision import LlavaOnevisionBackend
    from qsit_metric.hub import resolve
    from qsit_metric.prompts import AUTHORS, Recipe

    if model in SHAPES:
        empty = empty_model(model_config(stored("config.json"), SHAPES[model]), DTYPES[dtype])
        return LlavaOnevisionBackend(empty, *dialogue(), stored_geometry()), AUTHORS.scoring()
    folder = resolve(model).folder
    empty = empty_model(load_config(folder), DTYPES[dtype])
    backend = LlavaOnevisionBackend(empty, *load_tokenizer(folder, None), load_geometry(folder))
    return backend, (Recipe.load(folder) or AUTHORS).scoring()


def to_csv(lines: Sequence[Line], made: Conditions) -> str:
    """All lines, each with the conditions."""
    told = {name: value for name, value in asdict(made).items() if name not in ("dtype", "shape")}
    file = io.StringIO()
    writer = csv.DictWriter(file, [*(field.name for field in fields(Line)), *told], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**{name: _cell(value) for name, value in asdict(line).items()}, **told} for line in lines)
    return file.getvalue()


def to_page(lines: Sequence[Line], made: Conditions) -> str:
    """The same as tables for people."""
    parts = [f"# A training step with QSiTLoss, one picture of {lines[0].size}", ""]
    parts += ["Made by `python -m benchmarks.loss_step`, whose docstring says what is counted."]
    for group in dict.fromkeys((line.model, line.dtype, line.how) for line in lines):
        chosen = [line for line in lines if (line.model, line.dtype, line.how) == group]
        rows = _measured(chosen) if group[2] == "measured" else _computed(chosen)
        parts += ["", f"## {', '.join(group)}", "", *rows]
    machine = made.gpu or f"{made.cpu}, {made.threads} threads"
    busy = max((line.others or 0.0 for line in lines), default=0.0)
    note = f" Other processes kept {busy:.1f} cores busy: read the times with care." if busy > _BUSY else ""
    parts += ["", f"{machine}; torch {made.torch}, transformers {made.transformers}; {made.date}.{note}", ""]
    return "\n".join(parts)


def _measured(lines: Sequence[Line]) -> list[str]:
    head = ["| option | peak memory, MiB | seconds (median) |", "|---|---:|---:|"]
    return head + [f"| {line.option} | {line.peak_mib:,.0f} | {line.seconds:.3f} |" for line in lines]


def _computed(lines: Sequence[Line]) -> list[str]:
    head = ["| option | tiles | tokens | TFLOP | kept, MiB | peak, MiB |", "|---|---:|---:|---:|---:|---:|"]
    sizes = [f"{line.tflop:.3g} | {line.kept_mib:,.0f} | {line.peak_mib:,.0f}" for line in lines]
    return head + [
        f"| {line.option} | {line.tiles} | {line.tokens} | {size} |" for line, size in zip(lines, sizes, strict=True)
    ]


def _show(lines: Sequence[Line]) -> None:
    table = Table()
    for name in ("model", "how", "option", "tiles", "TFLOP", "kept MiB", "peak MiB", "seconds"):
        table.add_column(name)
    for line in lines:
        numbers = (line.tiles, line.tflop, line.kept_mib, line.peak_mib, line.seconds)
        table.add_row(line.model, line.how, line.option, *(str(_cell(number)) for number in numbers))
    Console().print(table)


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value


def _computed_dtype(model: str) -> str:
    """Models that need a GPU run in half precision; the small one as it is measured on a CPU."""
    return "float16" if model in SHAPES else "float32"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _wh(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise typer.BadParameter(f"{size!r} is no size such as 512x512", param_hint="--size")
    return int(width), int(height)


if __name__ == "__main__":
    typer.run(main)
