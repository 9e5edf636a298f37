"""Taking over from another run: the tower and the base, and the balance, if that was found there.

A run that teaches another's model on takes that, too, and the record of how it came about.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from qsit_metric.files import new_folder

from ..errors import RunError
from .stages import SETTINGS, read_json

_MODELS = ("tower", "base/last")
_SWEEPS = ("step1", "step2")
_MARK = "taken"
_SUMMARY = "summary.json"
_RESULT = "model/last"
MODEL = "begun"
"""The embedded model of another run, to be taught on."""
BEFORE = "before.json"
"""That run's summary."""


def take_over(run: Path, output: Path, seed: int, onward: bool = False) -> None:
    """Copy what another run has finished; nothing if it was done before.

    Args:
        run: The run's folder, or its `models` alone: then the balance is searched again.
        output: The folder of the run that goes on.
        seed: Its seed, which must be another one: the language model is to learn from pictures that are new to the
            tower.
        onward: Take the embedded model, too, to be taught on.

    Raises:
        RunError: There is no tower or no base, or what else is to be taken; or the seeds are equal.
    """
    models, place = run / "models" if (run / "models").is_dir() else run, output / "models"
    if place.is_dir():
        return
    needed = [models / name for name in _MODELS]
    needed += [run / name for name in (_RESULT, *_SWEEPS, _SUMMARY)] if onward else []
    for path in needed:
        if not path.exists():
            hint = "It is a run that is done." if onward else "It is a run, or the `models` of one."
            expected = f"a folder with {path.relative_to(run if onward else models)}"
            raise RunError.about("begin", str(run), expected, hint)
    settings = read_json(models.parent / SETTINGS)
    if settings.get("made", settings).get("seed") == seed:
        hint = "With the same seed the pictures would be those that the tower has seen."
        raise RunError.about("seed", seed, f"another one than that of {models.parent}", hint)
    for name in _SWEEPS:
        if (run / name / "fit.json").is_file() and not (output / name).is_dir():
            _copy([run / name], run, output / name, Path(_MARK))
    if onward and not (output / MODEL).is_dir():
        shutil.copyfile(run / _SUMMARY, output / BEFORE)
        _copy([(run / _RESULT).resolve()], run, output / MODEL, Path(_MARK))
    _copy([models / name for name in _MODELS], models, place, Path("base") / _MARK)


def taken(folder: Path) -> bool:
    """Whether a base or a sweep came from another run."""
    return (folder / _MARK).is_file()


def _copy(sources: list[Path], root: Path, place: Path, mark: Path) -> None:
    """All of them or nothing, with a mark that says so."""
    with new_folder(place) as work:
        for source in sources:
            within = work if len(sources) == 1 else work / source.relative_to(root)
            shutil.copytree(source, within, symlinks=True, dirs_exist_ok=True)
        (work / mark).write_text("of another run\n", encoding="utf-8")
