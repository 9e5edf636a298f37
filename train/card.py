"""The model card of an exported run: metadata of the Hub, then what was trained on what, and what came out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from qsit_metric import catalog
from qsit_metric.prompts import Recipe

from .recipe import dump_yaml

_REPO = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_TAGS = ("image-quality-assessment", "no-reference", "mos", "q-sit", "qsit-metric")
Json = Mapping[str, Any]

_LIMITS = (
    "- The score is the expected level of the training sets' mean opinion scores on 1 (bad) to 5 (excellent). Their "
    "viewers, screens and pictures are not yours: check it on pictures of your own before it decides anything.\n"
    "- The numbers above were measured on validation rows of the same sets, with which the checkpoint was also chosen; "
    "other sets usually give lower ones.\n"
    "- Answers in words are generated text and can be wrong.\n"
    "- Photographs were judged as a whole, at the sizes of the training sets; screens, drawings and medical pictures "
    "were not in them unless your own data says otherwise.\n"
    "- Weights inherit the terms of the base model and of the data sets."
)


def card(name: str, training: Json, events: Sequence[Json], dtype: str, licence: str | None, scoring: Recipe) -> str:
    """Write a model card.

    Args:
        name: The model's name.
        training: Content of a checkpoint's `training.json`.
        events: Objects of the run's `log.jsonl`, may be empty.
        dtype: Floating-point type of the weights.
        licence: Licence identifier of the Hub, or None.
        scoring: How the model is asked for a score.

    Returns:
        Markdown with a YAML head.
    """
    recipe = public(training["recipe"])
    parts = (
        f"---\n{dump_yaml(metadata(recipe, licence))}---\n",
        f"# {name}\n\nScores photographs as people would, and answers questions about their quality. Trained with the "
        f"recipe `{recipe.get('name', '?')}` of the Q-SiT program (Teaching LMMs for Image Quality Scoring and "
        f"Interpreting, arXiv 2503.09197); weights in {dtype}.\n",
        f"## Use\n\n{_use(name, scoring)}",
        f"## Measured\n\n{_measured(training)}",
        f"## Data\n\n{_data(training)}",
        f"## Mixture\n\n{_mixture(training, events)}",
        f"## Recipe\n\n```yaml\n{dump_yaml(recipe)}```\n\n"
        f"SHA-256 of what decides the result: `{training.get('recipe_sha256', 'unknown')}`.\n",
        f"## Limits\n\n{_LIMITS}\n",
    )
    return "\n".join(parts)


def metadata(recipe: Json, licence: str | None) -> dict[str, Any]:
    """The card's head as the Hub reads it.

    Example:
        >>> metadata({"model": {"base": "q-sit-mini"}}, "apache-2.0")["pipeline_tag"]
        'image-text-to-text'
    """
    head: dict[str, Any] = {"license": licence or "other"}
    if licence is None:
        head["license_name"] = "not-stated"
    head |= {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
    if base := _base(recipe):
        head["base_model"] = base
    return head | {"tags": list(_TAGS), "language": ["en"]}


def public(value: Any) -> Any:
    """The same plain values with absolute paths of the training machine cut to their last part.

    Example:
        >>> public({"folder": "/home/ann/data/q-sit", "base": "owner/repo"})
        {'folder': 'q-sit', 'base': 'owner/repo'}
    """
    if isinstance(value, Mapping):
        return {key: public(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(item) for item in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute() or value.startswith("~"):
                return kind(value).name
    return value


def _base(recipe: Json) -> str | None:
    """The base checkpoint as a Hub repository, if it is one."""
    base = str(recipe.get("model", {}).get("base", "")).partition("@")[0]
    record = catalog.find(base) if base else None
    if record is not None:
        return record.repo
    return base if _REPO.fullmatch(base) else None


def _use(name: str, scoring: Recipe) -> str:
    question = json.dumps("Is the picture sharp?")
    return (
        "```python\nfrom qsit_metric import QSiT  # pip install qsit-metric\n\n"
        f'metric = QSiT("{name}")  # this folder or its Hub name\n'
        'metric.score("photo.jpg")  # 1 (bad) to 5 (excellent)\n'
        f'metric.ask("photo.jpg", {question})\n```\n\n'
        "`qsit_recipe.json` holds the strings with which it is asked for a score: "
        f"{json.dumps(scoring.question)}, then {json.dumps(scoring.answer_prefix)} and the probabilities of "
        f"{', '.join(json.dumps(word) for word in scoring.words)}.\n"
    )


def _measured(training: Json) -> str:
    metrics = training.get("metrics") or {}
    if not metrics:
        return "Nothing was measured with this checkpoint.\n"
    rows = [f"| {name} | {_number(value)} |" for name, value in metrics.items()]
    versions = ", ".join(f"{name} {version}" for name, version in (training.get("versions") or {}).items())
    when = f"step {training.get('total', training.get('step', '?'))}, {training.get('epoch', '?')} whole epochs"
    return "\n".join(["| number | value |", "|---|---|", *rows]) + (
        f"\n\nMeasured at {when}, by the training program (`train`, `qsit_metric.evaluation`) on the validation rows "
        f"of the data below, in the precision of the recipe; {versions}.\n"
    )


def _number(value: object) -> str:
    if value is None:
        return "undefined"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _data(training: Json) -> str:
    data = training.get("data") or {}
    counts = dict(zip(("scoring (D1)", "interpreting (D2)", "general (D3)"), _counts(data.get("counts")), strict=False))
    rows = [f"| {name} | {count} |" for name, count in counts.items()]
    return "\n".join(["| set | rows for training |", "|---|---|", *rows]) + (
        f"\n\nThe rows are frozen in `{public(data.get('folder', '?'))}`; SHA-256 of all its manifests: "
        f"`{data.get('digest', 'unknown')}`.\n"
    )


def _counts(counts: Any) -> list[Any]:
    return list(counts.values()) if isinstance(counts, Mapping) else list(counts or ())


def _mixture(training: Json, events: Sequence[Json]) -> str:
    sizes = (training.get("mixture") or {}).get("sizes") or []
    lines = ["| epoch | D1 | D2 | D3 |", "|---|---|---|---|"]
    for epoch, one in enumerate(sizes, start=1):
        lines.append(f"| {epoch} | {' | '.join(map(str, _counts(one)))} |")
    steps = [event for event in events if event.get("kind") == "balance"]
    told = [
        f"- After epoch {event.get('epoch', '?')}: {event.get('action', 'adjusted')}, loss ratio "
        f"{_number(event.get('ratio'))} against {_number(event.get('reference'))}, sizes {event.get('before', '?')} to "
        f"{event.get('sizes', '?')}."
        for event in steps
        if event.get("total", 0) <= training.get("total", training.get("step", 0))
    ]
    history = "\n".join(told) if told else "The mixture was not adjusted during training."
    return "Rows of each set in an epoch:\n\n" + "\n".join(lines) + f"\n\n{history}\n"
