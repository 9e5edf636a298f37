"""Scores, answers and descriptions of a set's images, each as a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import EvaluationError, Item, Manifest, Question
from qsit_metric.evaluation.loop import Progress, is_qsit, outcomes
from qsit_metric.evaluation.multiple_choice import Rule, check_rule, is_correct
from qsit_metric.journal import digest
from qsit_metric.prompts import DESCRIBE, multiple_choice

from .results import Results, told
from .run import Groups, Process, carry_out, identity

if TYPE_CHECKING:
    from qsit_metric import Answer, QSiT
    from qsit_metric.batching import Timing
    from qsit_metric.metric import View


def score_run(
    metric: QSiT | Callable[[str], Any],
    manifest: Manifest,
    folder: Path,
    *,
    exif: bool = False,
    seed: int = 0,
    retry_failed: bool = False,
    progress: Progress | None = None,
    process: Process | None = None,
) -> Results:
    """Score what has no score yet in the run's folder.

    A batch depends on what is missing, so a run that was cut gives the scores of an undisturbed one up to the rounding
    of its dtype.

    Args:
        metric: A `QSiT`, or any function of a path that gives a number; see `qsit_metric.evaluation.evaluate`.
        manifest: The images; each id once.
        folder: Of this model on this set.
        exif: Apply the EXIF orientation; the authors' code does not.
        seed: Recorded, for who draws random numbers from it, as the tables do for their intervals.
        retry_failed: Score again what has failed before.
        progress: Called with (done, to do) of this process.
        process: Which of several this is; default: as `accelerate launch` says.

    Returns:
        All rows so far, of all processes: "image", "mos", "score" on the metric's scale, and of a `QSiT` "level",
        "probs" and "note", too.

    Raises:
        EvaluationError: The folder has results of something else or is in use, an id stands twice, or the disk is full.

    Example:
        >>> score_run(QSiT(), manifest, Path("out/q-sit-mini/livec")).standing()  # doctest: +SKIP
        'livec: 1169 of 1169 done, 0 failed'
    """
    items, ids = manifest.items, [item.id for item in manifest.items]
    applied = exif if is_qsit(metric) else None
    what = identity("scores", metric, manifest.name, manifest.sha256, ids, exif=applied, seed=seed)

    def work(todo: Groups, timing: Timing | None) -> Iterator[dict[str, Any]]:
        places = [place for group in todo for place in group]
        rest = Manifest(manifest.name, [items[place] for place in places], manifest.root)
        found, _ = outcomes(metric, rest, exif, timing)
        for place, result in zip(places, found, strict=True):
            yield _score_row(place, items[place], result)

    return carry_out(
        folder, what, ids, [[place] for place in range(len(ids))], work,
        timed=is_qsit(metric), process=process, retry_failed=retry_failed, progress=progress,
    )  # fmt: skip


def _score_row(place: int, item: Item, result: float | Exception) -> dict[str, Any]:
    row: dict[str, Any] = {"id": item.id, "place": place, "image": item.image, "mos": item.mos}
    if isinstance(result, Exception):
        return {**row, "score": None, **told(result)}
    said = {name: getattr(result, name) for name in ("level", "probs", "note") if hasattr(result, name)}
    return {**row, "score": float(result), **said, "error": ""}


ALL_RULES: tuple[Rule, ...] = ("authors", "strict", "logits")


def question_run(
    metric: QSiT,
    questions: Sequence[Question],
    root: Path,
    folder: Path,
    rules: Sequence[Rule] = ALL_RULES,
    *,
    name: str = "llvisionqa",
    exif: bool = False,
    max_new_tokens: int = 200,
    seed: int = 0,
    retry_failed: bool = False,
    progress: Progress | None = None,
    process: Process | None = None,
) -> Results:
    """Ask what has no answer yet in the run's folder.

    An image is encoded once for all its questions. One picture is asked at a time, so what is written does not depend
    on where a run was cut.

    Args:
        metric: Who answers.
        questions: What `read_llvisionqa` gives; each id once.
        root: Folder of the images.
        folder: Of this model on this set.
        rules: How answers are judged, see `qsit_metric.evaluation.multiple_choice`. "authors" and "strict" read one and
            the same written reply.
        name: Of the set.
        exif: See `score_run`.
        max_new_tokens: Limit of a written reply; the authors' is 200.
        seed: See `score_run`.
        retry_failed: Ask again what has failed before.
        progress: Called with (done, to do) of this process, in questions.
        process: See `score_run`.

    Returns:
        All rows so far, of all processes: the question's fields, "reply" and "finished" of the written answer, "choice"
        and "probs" of the likelihood, and "correct": rule -> bool, or None if the right answer is withheld.

    Raises:
        EvaluationError: As for `score_run`; or an unknown rule.
    """
    for rule in rules:
        check_rule(rule)
    if not rules or not questions:
        raise EvaluationError.about("rules, questions", (rules, len(questions)), "at least one of each")
    ids, kept = [one.id for one in questions], [rule for rule in ALL_RULES if rule in rules]
    sha256 = digest([dataclasses.asdict(one) for one in questions])
    what = identity(
        "questions", metric, name, sha256, ids, exif=exif, rules=kept, max_new_tokens=max_new_tokens, seed=seed
    )

    def work(todo: Groups, timing: Timing | None) -> Iterator[dict[str, Any]]:
        from qsit_metric.metric import opened

        paths = (root / questions[group[0]].image for group in todo)
        for group, view in zip(todo, opened(metric, paths, exif=exif, timing=timing), strict=True):
            for place, found in zip(
                group, _answered(view, [questions[p] for p in group], kept, max_new_tokens), strict=True
            ):
                yield _question_row(place, questions[place], found)

    return carry_out(
        folder, what, ids, _by_image(questions), work, process=process, retry_failed=retry_failed, progress=progress
    )


def _by_image(questions: Sequence[Question]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        groups.setdefault(question.image, []).append(place)
    return list(groups.values())


def _answered(
    view: View | QSiTError, questions: Sequence[Question], rules: Sequence[Rule], limit: int
) -> Iterator[dict[str, Any] | QSiTError]:
    if isinstance(view, QSiTError):
        yield from (view for _ in questions)
        return
    with view:
        for one in questions:
            try:
                yield _asked(view, one, rules, limit)
            except QSiTError as error:  # noqa: PERF203
                yield error


def _asked(view: View, one: Question, rules: Sequence[Rule], limit: int) -> dict[str, Any]:
    answers: dict[Rule, Answer] = {}
    fields: dict[str, Any] = {}
    if written := [rule for rule in rules if rule != "logits"]:
        reply = view.ask(multiple_choice(one.question, one.choices), max_new_tokens=limit)
        answers |= dict.fromkeys(written, reply)
        fields |= {"reply": str(reply), "finished": reply.finished}
    if "logits" in rules:
        answers["logits"] = chosen = view.ask(one.question, choices=one.choices)
        fields |= {"choice": chosen.choice, "probs": chosen.probs}
    right = one.answer
    correct = {
        rule: None if right is None else is_correct(rule, answer, one.choices, right)
        for rule, answer in answers.items()
    }
    return {**fields, "correct": correct}


def _question_row(place: int, one: Question, found: dict[str, Any] | QSiTError) -> dict[str, Any]:
    row = {**dataclasses.asdict(one), "place": place}
    if isinstance(found, QSiTError):
        return {**row, "correct": {}, **told(found)}
    return {**row, **found, "error": ""}


def describe_run(
    metric: QSiT,
    images: Sequence[str],
    root: Path,
    folder: Path,
    prompt: str = DESCRIBE,
    *,
    name: str = "lldescribe",
    exif: bool = False,
    max_new_tokens: int = 200,
    seed: int = 0,
    retry_failed: bool = False,
    progress: Progress | None = None,
    process: Process | None = None,
) -> Results:
    """Describe what has no description yet in the run's folder.

    Args:
        metric: Who describes.
        images: Paths below `root`, each once; they are the ids.
        root: Folder of the images.
        folder: Of this model on this set.
        prompt: What is asked of each image.
        name: Of the set.
        exif: See `score_run`.
        max_new_tokens: Limit of a description.
        seed: See `score_run`.
        retry_failed: Describe again what has failed before.
        progress: Called with (done, to do) of this process.
        process: See `score_run`.

    Returns:
        All rows so far, of all processes: "image", "reply", and "finished" (False if it was cut at the limit).

    Raises:
        EvaluationError: As for `score_run`.
    """
    ids = list(images)
    sha256 = digest([{"image": image} for image in ids])
    what = identity(
        "descriptions", metric, name, sha256, ids, exif=exif, prompt=prompt, max_new_tokens=max_new_tokens, seed=seed
    )

    def work(todo: Groups, timing: Timing | None) -> Iterator[dict[str, Any]]:
        from qsit_metric.metric import opened

        places = [place for group in todo for place in group]
        views = opened(metric, (root / ids[place] for place in places), exif=exif, timing=timing)
        for place, view in zip(places, views, strict=True):
            row = {"id": ids[place], "place": place, "image": ids[place]}
            yield {**row, **_described(view, prompt, max_new_tokens)}

    return carry_out(
        folder, what, ids, [[place] for place in range(len(ids))], work,
        process=process, retry_failed=retry_failed, progress=progress,
    )  # fmt: skip


def _described(view: View | QSiTError, prompt: str, limit: int) -> dict[str, Any]:
    try:
        if isinstance(view, QSiTError):
            raise view
        with view:
            reply = view.ask(prompt, max_new_tokens=limit)
        return {"reply": str(reply), "finished": reply.finished, "error": ""}
    except QSiTError as error:
        return {"reply": None, "finished": None, **told(error)}
