"""What the tiny run found, as plain fields. Thin shell: reads the runs' logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data.frozen import Frozen
from ..sweep.curve import Fit


def fitted(fit: Fit) -> dict[str, Any]:
    """The optimum of a sweep and how sure it is."""
    kept = ("best_ratio", "interval", "edge", "performance", "residual_std", "runs", "ratios")
    return {name: value for name, value in fit.as_dict().items() if name in kept}


def chance(data: Frozen) -> float:
    """Accuracy of guessing."""
    return sum(1 / len(question.choices) for question in data.val_questions) / len(data.val_questions)


def history(run: Path) -> list[list[int]]:
    """Sizes of D1, D2 and D3 in each epoch, as logged."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [event["sizes"] for event in events if event["kind"] == "epoch"]
