"""The small model on photographs that it has never seen: scores, answers, time and memory, beside what is asked of it.

    python -m benchmarks.nano q-sit-nano --photos FOLDER -o OUT
    python -m benchmarks.nano.draw OUT --to FOLDER

Photographs are degraded in KADID-10k's ways as they are needed; equal seeds give equal pictures, and none is kept.
Results come as OUT/nano.json, nano-scores.csv, nano-questions.csv and nano.md; OUT/progress has every score and reply
as it came, so a run that was cut goes on with the same command. To measure time and memory again, remove
OUT/progress/speed.jsonl. If ablation.json or leave-one-out.json lie in OUT, nano.md has their tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.nano.measure import Settings, measure
from benchmarks.nano.pictures import photographs
from benchmarks.nano.report import target_cells
from benchmarks.options import app_of
from qsit_metric import QSiT, console

_RESULTS = Path(__file__).resolve().parents[1] / "results" / "nano"


def main(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A checkpoint folder or a catalog name.")],
    photos: Annotated[Path, typer.Option("--photos", metavar="FOLDER", help="Photographs.")],
    images: Annotated[
        int, typer.Option("--images", min=0, help="Size of the scoring sample; 0 is the full set.")
    ] = 1250,
    questions: Annotated[int, typer.Option("--questions", min=6, help="Questions, a multiple of 6.")] = 600,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sample, the pictures and the questions.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Gets the results.")] = _RESULTS,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that make pictures; 0: all cores.")] = 0,
    device: Annotated[str, typer.Option("--device", help="A torch device.")] = "cpu",
    speed: Annotated[bool, typer.Option("--speed/--no-speed", help="Measure time and memory, too.")] = True,
) -> None:
    """Measure a small model on photographs and say which targets are met."""
    settings = Settings(photos, output, images, questions, seed, workers, speed)
    photographs(photos)  # a wrong folder is known before a model is loaded
    found = measure(QSiT(model, device=device), settings)
    columns = ("target", ">measured", ">asked for", "met")
    console.out().print(console.table(columns, target_cells(found["targets"]), title=str(found["made"]["model"])))
    met = sum(row["met"] for row in found["targets"])
    console.write(f"{met} of {len(found['targets'])} targets met, {len(found['failed'])} failures; see {output}")


if __name__ == "__main__":
    app_of(main)()
