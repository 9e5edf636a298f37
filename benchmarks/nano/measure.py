"""All measurements of one model, resumable, and the files that they are written to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import output
from benchmarks.cost.report import conditions
from benchmarks.nano import report
from benchmarks.nano.evaluate import Replied, Scored, ask_all, score_cases, score_series
from benchmarks.nano.pictures import cases, fingerprint, photographs
from benchmarks.nano.questions import draw, tones
from benchmarks.nano.speed import measure_speed
from benchmarks.nano.statistics import answering, monotone, scoring, targets
from qsit_metric import QSiT
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.loop import write_results
from qsit_metric.files import Files, locked
from qsit_metric.journal import Journal

FILES = Files(EvaluationError, "--output")
_LOGS = "progress"


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        photos: Folder of the photographs.
        output: Folder of the results; `progress/` in it holds what a killed run goes on with.
        images: Size of the scoring sample, 0 for the full set; see `cases`.
        questions: How many, a multiple of 6.
        seed: Of the sample, the pictures, the questions and the intervals.
        workers: Processes that make pictures; 0 takes as many as there are cores.
        speed: Whether time and memory are measured.
        limit: Tokens of a written reply.
    """

    photos: Path
    output: Path
    images: int = 1250
    questions: int = 600
    seed: int = 0
    workers: int = 0
    speed: bool = True
    limit: int = 200


def measure(metric: QSiT, settings: Settings) -> dict[str, Any]:
    """Measure a model and write `nano.json`, `nano-scores.csv`, `nano-questions.csv` and `nano.md`.

    Args:
        metric: The model.
        settings: What is measured.

    Returns:
        What `nano.json` has.

    Raises:
        EvaluationError: No photographs, a number off its range, results of another run in the output folder, another
            run that writes there, or no picture that could be scored.
    """
    names = photographs(settings.photos)
    wanted = cases(names, settings.images, settings.seed)
    asked = draw(tones(settings.photos, names), settings.questions, settings.seed)
    made = provenance(metric)
    identity = {**made, "seed": settings.seed, "photographs": fingerprint(settings.photos, names)}
    logs = settings.output / _LOGS
    logs.mkdir(parents=True, exist_ok=True)
    with locked(logs / "lock") as held:
        if not held:
            raise EvaluationError.about("--output", str(settings.output), "a folder that no other run is writing")
        with Journal(logs / "scores.jsonl", identity, FILES) as log:
            scored = score_cases(metric, wanted, settings.photos, settings.seed, log, settings.workers)
        asking = {**identity, "questions": len(asked), "limit": settings.limit}
        with Journal(logs / "questions.jsonl", asking, FILES) as log:
            replied = ask_all(metric, asked, settings.photos, log, settings.workers, settings.limit)
        speed = _speed(metric, settings.photos / names[0], logs, identity) if settings.speed else None
        return _written(metric, settings, names, identity, scored, replied, speed)


def provenance(metric: QSiT) -> dict[str, str | None]:
    """What made the numbers; of a folder its name, not where it lies."""
    made = dict(metric.info)
    model = Path(str(made["model"]))
    return {**made, "model": model.name if model.is_dir() else made["model"]}


def _speed(metric: QSiT, photograph: Path, logs: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Measured once for each output folder."""
    with Journal(logs / "speed.jsonl", identity, FILES) as log:
        if "speed" not in log.done:
            model = Path(str(metric.info["model"]))
            name = str(model.resolve()) if model.is_dir() else str(model)
            log.add({"key": "speed", **measure_speed(name, str(metric.device), photograph)})
        return {name: value for name, value in log.done["speed"].items() if name != "key"}


def _written(
    metric: QSiT,
    settings: Settings,
    names: Sequence[str],
    identity: Mapping[str, Any],
    scored: Sequence[Scored],
    replied: Sequence[Replied],
    speed: Mapping[str, Any] | None,
) -> dict[str, Any]:
    good = [one for one in scored if one.score is not None]
    if not good:
        raise EvaluationError.about("--photos", str(settings.photos), "pictures to score", f"First: {scored[0].error}")
    found: dict[str, Any] = {
        "made": provenance(metric),
        "conditions": dataclasses.asdict(conditions(metric.device, str(metric.info["dtype"]), str(identity["model"]))),
        "seed": settings.seed,
        "photographs": {"n": len(names), "sha256": identity["photographs"], "sizes": _sizes(settings.photos, names)},
        "images": {"asked_for": settings.images, "scored": len(good), "questions": len(replied)},
        "scoring": scoring(scored, settings.seed),
        "monotone": monotone(scored),
        "questions": answering(replied),
        "speed": speed,
        "strip": score_series(metric, settings.seed),
        "extras": report.extras(settings.output),
        "failed": _failed(scored, replied),
    }
    found["targets"] = [one.as_dict() for one in targets(found)]
    out, rows = settings.output, report.score_rows(scored)
    write_results(out / "nano-scores.csv", {}, rows)
    write_results(out / "nano-questions.csv", {}, report.question_rows(replied))
    output.FILES.write_json(out / "nano.json", found)
    output.FILES.write(out / "nano.md", report.markdown(found))
    return found


def _failed(scored: Sequence[Scored], replied: Sequence[Replied]) -> list[dict[str, str]]:
    pictures = [{"what": one.case.key, "error": one.error} for one in scored if one.error]
    return pictures + [
        {"what": f"question {one.asked.question.id}", "error": one.error} for one in replied if one.error
    ]


def _sizes(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """How many photographs have which width x height."""
    sizes: dict[str, int] = {}
    for name in names:
        with Image.open(folder / name) as image:
            key = f"{image.width}x{image.height}"
        sizes[key] = sizes.get(key, 0) + 1
    return sizes
