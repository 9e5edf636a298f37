"""Put the exported q-sit-nano, its measured card and its figures where the package and the docs have them.

    python -m benchmarks.nano.ship RUN RESULTS

RUN is what `python -m train nano` wrote, RESULTS what `python -m benchmarks.nano` measured with RUN/q-sit-nano.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks._app import app_of
from benchmarks.nano.card import card
from benchmarks.nano.draw import draw
from qsit_metric import console
from qsit_metric.evaluation import EvaluationError
from qsit_metric.files import commit_folder, write_atomic
from qsit_metric.hub import fingerprint

_ROOT = Path(__file__).resolve().parents[2]
_WEIGHTS = _ROOT / "src" / "qsit_metric" / "weights"
_RESULTS = _ROOT / "benchmarks" / "results" / "nano"
_PICTURES = _ROOT / "docs" / "images"
_KEPT = ("nano.json", "nano.md", "nano-scores.csv", "nano-questions.csv", "ablation.json", "leave-one-out.json")


def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of `python -m train nano`.")],
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="The folder of `python -m benchmarks.nano`.")],
) -> None:
    """Put the model, its card, its results and figures into the checkout."""
    model = run / "q-sit-nano"
    measured, summary = read(results / "nano.json"), read(run / "summary.json")
    if measured["made"]["revision"] != fingerprint(model):
        hint = "Run `python -m benchmarks.nano` with the exported model."
        raise EvaluationError.about("RESULTS", str(results), f"measurements of {model}", hint)
    _RESULTS.mkdir(parents=True, exist_ok=True)
    for name in _KEPT:
        if results.resolve() == _RESULTS:
            continue
        (_RESULTS / name).unlink(missing_ok=True)  # else one of other weights would stay
        if (results / name).is_file():
            shutil.copyfile(results / name, _RESULTS / name)
    write_atomic(_RESULTS / "summary.json", json.dumps(summary, indent=1) + "\n")
    _place(model, card(measured, summary, read(model / "training.json")["recipe"]))
    _draw(run, results)
    console.say(f"the model is in {_WEIGHTS / 'q-sit-nano'}, figures in {_PICTURES}")


def read(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        EvaluationError: There is none.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError) as error:
        raise EvaluationError.about("file", str(path), "a JSON file", f"{error}.") from error


def _place(model: Path, text: str) -> None:
    """The folder as a whole, with the measured card in place of the run's."""
    _WEIGHTS.mkdir(parents=True, exist_ok=True)
    target = _WEIGHTS / model.name
    with tempfile.TemporaryDirectory(dir=_WEIGHTS, prefix=".nano-") as place:
        work = Path(place) / model.name
        shutil.copytree(model, work)
        (work / "README.md").write_text(text, encoding="utf-8")
        if target.is_dir():
            shutil.rmtree(target)
        commit_folder(work, target)


def _draw(run: Path, results: Path) -> None:
    _PICTURES.mkdir(parents=True, exist_ok=True)
    draw(results, _PICTURES)
    for step in (1, 2):
        if (curve := run / f"step{step}" / "fit.png").is_file():
            write_atomic(_PICTURES / f"nano-step{step}.png", curve.read_bytes())


if __name__ == "__main__":
    app_of(main)()
