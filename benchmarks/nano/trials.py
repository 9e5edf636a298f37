"""The runs beside the embedded model on the same photographs: the ablation table, and the types that were left out.

    python -m benchmarks.nano.trials RUN --photos FOLDER -o OUT

RUN is what `python -m train nano` wrote. Each picture is made once and shown to all models. Results come as
OUT/ablation.json and OUT/leave-one-out.json, which `benchmarks.nano` puts into its tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from benchmarks.nano.evaluate import batched
from benchmarks.nano.pictures import Case, Picture, cases, photographs, pictures
from benchmarks.nano.questions import Asked, draw, tones
from benchmarks.nano.training import LEVELS
from benchmarks.options import app_of
from benchmarks.output import FILES
from qsit_metric import QSiT, console
from qsit_metric.evaluation import EvaluationError, correlate, srcc


def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of `python -m train nano`.")],
    photos: Annotated[Path, typer.Option("--photos", metavar="FOLDER", help="Photographs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Gets the results.")],
    images: Annotated[int, typer.Option("--images", min=0, help="Size of the scoring sample; 0: all.")] = 625,
    questions: Annotated[int, typer.Option("--questions", min=6, help="Questions, a multiple of 6.")] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sample, the pictures and the questions.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that make pictures; 0: all cores.")] = 0,
) -> None:
    """Measure the ablations and the runs that leave a type out."""
    names = photographs(photos)
    rows = _ablations(run)
    models = {name: QSiT(run / "ablations" / name / "last", device="cpu") for name in rows}
    sample = [case for case in cases(names, images, seed) if case.sampled]
    scores = _scores(models, sample, photos, seed, workers)
    asked = draw(tones(photos, names), questions, seed)
    right = _right(models, asked, photos, workers)
    found = [_row(rows[name], sample, scores[name], right[name], questions) for name in rows]
    _write(output / "ablation.json", found)
    _write(output / "leave-one-out.json", [_left_out(one, names, photos, seed, workers) for one in _left(run)])
    for row in found:
        console.say(f"{row['name']}: SRCC {row['srcc']:.3f}, accuracy {row['accuracy']:.3f}")


def _ablations(run: Path) -> dict[str, Mapping[str, Any]]:
    path = run / "ablations.json"
    if not path.is_file():
        raise EvaluationError.about("RUN", str(run), f"a folder with {path.name}", "`python -m train nano` writes it.")
    return {row["folder"]: row for row in FILES.json(path)["rows"]}


def _left(run: Path) -> list[tuple[str, Path]]:
    return [(path.parent.parent.name, path) for path in sorted((run / "without").glob("*/run/last"))]


def _scores(
    models: Mapping[str, QSiT], wanted: Sequence[Case], photos: Path, seed: int, workers: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in models}
    stream = _made(photos, [case.picture(seed) for case in wanted], workers)
    for batch in batched(console.track(stream, "scores", len(wanted))):
        for name, metric in models.items():
            found[name] += [float(score) for score in metric.score(batch, exif=False)]
    return found


def _right(models: Mapping[str, QSiT], asked: Sequence[Asked], photos: Path, workers: int) -> dict[str, float]:
    """Share of right answers by likelihood."""
    counts = dict.fromkeys(models, 0)
    stream = _made(photos, [one.picture for one in asked], workers)
    for one, image in zip(asked, console.track(stream, "questions", len(asked)), strict=True):
        question = one.question
        for name, metric in models.items():
            chosen = str(metric.ask(image, question.question, choices=question.choices, exif=False))
            counts[name] += chosen == question.choices[question.answer or 0]
    return {name: count / len(asked) for name, count in counts.items()}


def _left_out(one: tuple[str, Path], names: Sequence[str], photos: Path, seed: int, workers: int) -> dict[str, Any]:
    """The correlation over all levels of the type and the untouched photographs."""
    kind, model = one
    wanted = [Case(name, kind, level) for name in names for level in LEVELS] + [Case(name) for name in names]
    scores = _scores({kind: QSiT(model, device="cpu")}, wanted, photos, seed, workers)[kind]
    return {"type": kind, "srcc": srcc(scores, [case.label for case in wanted]), "n": len(wanted)}


def _row(
    trial: Mapping[str, Any], sample: Sequence[Case], scores: Sequence[float], right: float, questions: int
) -> dict[str, Any]:
    agreement = correlate(scores, [case.label for case in sample])
    return {"name": trial["name"], "srcc": agreement.srcc, "plcc": agreement.plcc, "n": len(sample), "accuracy": right,
            "questions": questions, "seconds": trial["seconds"]}  # fmt: skip


def _made(photos: Path, wanted: Sequence[Picture], workers: int) -> Iterator[Image.Image]:
    for made in pictures(photos, wanted, workers):
        if not isinstance(made, Image.Image):
            raise made
        yield made


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    FILES.write_json(path, {"rows": rows})


if __name__ == "__main__":
    app_of(main)()
