"""What a run is: everything that its results depend on, so that results of two different things never mix."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.output import flat
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.loop import is_qsit, provenance


def identity(kind: str, metric: Any, name: str, sha256: str, ids: Sequence[str], **settings: Any) -> dict[str, Any]:
    """The content of a run's `run.json`.

    Args:
        kind: "scores", "questions" or "descriptions".
        metric: A `QSiT`, or a function of a path.
        name: Of the set.
        sha256: Of the set's list.
        ids: Of its images or questions.
        settings: What else the results depend on.

    Raises:
        EvaluationError: No ids, or some twice; or something that is no metric.
    """
    if not ids or len(set(ids)) < len(ids):
        shown = ", ".join([one for one, times in Counter(ids).items() if times > 1][:3]) or "none"
        raise EvaluationError.about("set", f"<{name}; ids that stand twice: {shown}>", "at least one id, and each once")
    recipe = dataclasses.asdict(metric.recipe) if is_qsit(metric) else None
    found = {
        "kind": kind, "set": name, "n": len(ids), "sha256": sha256, "made": made_by(metric), "recipe": recipe,
        **settings,
    }  # fmt: skip
    return dict(json.loads(json.dumps(found)))


def made_by(metric: Any) -> dict[str, str | None]:
    """What makes a metric's results: of a folder its name, not where it lies; of a device its kind, not its number."""
    made = provenance(metric)
    model = Path(str(made["model"]))
    made["model"] = model.resolve().name if model.is_dir() else made["model"]
    if made.get("device"):
        made["device"] = str(made["device"]).partition(":")[0]
    return made


def check_same(folder: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder of something else.

    Raises:
        EvaluationError: They differ; the message says in what.
    """
    before, now = dict(flat(theirs)), dict(flat(ours))
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    if names == ["sha256"]:
        hashes = f"(sha256 {str(before['sha256'])[:12]}, now {str(now['sha256'])[:12]})"
        changed = f"Its images, scores or texts have changed since {hashes}. Name another folder, or remove this one."
        raise EvaluationError.about("folder", str(folder), "a folder with results of the same list", changed)
    if names:
        shown = ", ".join(f"{name} {before.get(name)} (now {now.get(name)})" for name in names)
        hint = f"It was made with {shown}. Name another folder, or remove this one."
        raise EvaluationError.about("folder", str(folder), "a folder with results of the same run", hint)


def digest(fields: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of a list of plain records."""
    return hashlib.sha256(json.dumps(list(fields), sort_keys=True).encode()).hexdigest()
