"""Fig. 6: pictures side by side, each with its score, the probability of each level, and questions with answers.

    page += fragment(collect(metric, ["a.jpg", "b.jpg"], ["Is it sharp?", DESCRIBE]))

Paper: Q-SiT, arXiv 2503.09197, Sec. IV-F.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from benchmarks.options import model_name
from benchmarks.page import Page
from qsit_metric.evaluation import EvaluationError
from qsit_metric.levels import SCORE_RANGE
from qsit_metric.prompts import DESCRIBE

if TYPE_CHECKING:
    from PIL import Image

    from benchmarks.artefacts import Request
    from qsit_metric import QSiT

COLOURS = ("#b2182b", "#ef8a62", "#e0c36a", "#92c5de", "#2166ac")
"""Of the levels, worst first; told apart by people who do not tell red from green."""

_PREVIEW = 960  # pixels of the longer side of a picture in HTML


def page(request: Request) -> Page:
    """Pictures with what each model makes of them."""
    shown = {}
    for model, metric in request.options.metrics():
        collected = collect(metric, request.picture, request.questions)
        shown[f"Fig. 6: scores and answers of {model_name(model)}"] = fragment(collected)
    return Page(answers=shown)


@dataclass(frozen=True)
class Shown:
    """A picture and what a model said about it.

    Attributes:
        name: Above the picture.
        image: RGB.
        score: 1..5, higher is better.
        probs: Probability of each level, worst first; sums to 1.
        answers: (question, answer) each.
        note: What a reader should know about the picture, or None.
    """

    name: str
    image: Image.Image
    score: float
    probs: Mapping[str, float]
    answers: tuple[tuple[str, str], ...]
    note: str | None = None


def collect(
    metric: QSiT,
    images: Sequence[Any],
    questions: Sequence[str] = (DESCRIBE,),
    *,
    names: Sequence[str] | None = None,
    exif: bool = True,
    max_new_tokens: int = 200,
) -> list[Shown]:
    """Score pictures and ask the same questions about each; a picture is read once for all.

    Args:
        metric: Who answers.
        images: Anything that `QSiT.score` takes as one image.
        questions: One or more.
        names: Of the pictures; default: (A), (B) and so on, as in the paper.
        exif: Apply the EXIF orientation, for the model and in the figure.
        max_new_tokens: Limit of an answer; one that was cut ends with an ellipsis.

    Raises:
        EvaluationError: No pictures, no questions, or another number of names.
        QSiTError: A picture cannot be read, or the model failed.
    """
    called = [_letter(place) for place in range(len(images))] if names is None else list(names)
    if not images or not questions or len(called) != len(images):
        shown = (len(images), len(questions), len(called))
        raise EvaluationError.about(
            "images, questions, names", shown, "at least one of each, and a name for each image"
        )
    return [
        _shown(metric, image, name, questions, exif, max_new_tokens) for image, name in zip(images, called, strict=True)
    ]


def fragment(shown: Iterable[Shown]) -> str:
    """HTML that needs no other file: a `<div>` with a `<figure>` for each picture, side by side."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:24px">\n{"".join(map(_card, shown))}</div>\n'


def _shown(metric: QSiT, image: Any, name: str, questions: Sequence[str], exif: bool, limit: int) -> Shown:
    from qsit_metric.pixels import load

    picture = load(image, exif=exif)
    with metric.open(image, exif=exif) as view:
        score, replies = view.score(), view.ask(list(questions), max_new_tokens=limit)
    answers = [f"{reply}" if reply.finished else f"{reply} ..." for reply in replies]
    return Shown(
        name, _pixels(picture), float(score), dict(score.probs), tuple(zip(questions, answers, strict=True)), score.note
    )


def _pixels(picture: Any) -> Image.Image:
    """The picture as PIL has it."""
    from PIL import Image

    if isinstance(picture.pixels, Image.Image):
        return picture.pixels
    values = picture.pixels.detach().cpu().round().clamp(0, 255).byte()
    return Image.fromarray(values.permute(1, 2, 0).numpy())


def _letter(place: int) -> str:
    """(A) to (Z), then (27) and so on."""
    return f"({chr(ord('A') + place)})" if place < 26 else f"({place + 1})"


def _card(one: Shown) -> str:
    said = "".join(
        f'<p style="margin:12px 0 0;white-space:pre-line"><b>{_text(question)}</b>\n'
        f"{_text(answer) or '(nothing)'}</p>\n"
        for question, answer in one.answers
    )
    low, high = SCORE_RANGE
    note = f" ({_text(one.note)})" if one.note else ""
    return (
        '<figure style="margin:0;flex:1 1 320px;max-width:480px;overflow-wrap:anywhere">\n'
        f'<img src="data:image/jpeg;base64,{_jpeg(one.image)}" alt="{_text(one.name)}" '
        'style="width:100%;max-height:320px;object-fit:contain;background:#f1f3f5">\n'
        f"<figcaption><b>{_text(one.name)}</b>{note}<br>score {one.score:.2f} of {low:g} to {high:g}\n"
        f"{_bar(one)}\n{said}</figcaption>\n</figure>\n"
    )


def _bar(one: Shown) -> str:
    """A stripe for each level, as long as it is probable, and a legend that says the same in words."""
    stripes = "".join(
        f'<span style="width:{100 * share:.2f}%;background:{colour}"></span>'
        for share, colour in zip(one.probs.values(), cycle(COLOURS), strict=False)
    )
    legend = ", ".join(f"{_text(level)} {share:.0%}" for level, share in one.probs.items())
    return f'<span style="display:flex;height:14px">{stripes}</span><small>{legend}</small>'


def _text(text: str) -> str:
    return html.escape(printable(text))


def printable(text: str) -> str:
    """Text without characters that have no shape, such as control characters."""
    return "".join(one if one.isprintable() or one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _jpeg(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((_PREVIEW, _PREVIEW))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return base64.b64encode(file.getvalue()).decode("ascii")
