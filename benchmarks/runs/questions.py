"""Answers to multiple-choice questions, as a run: asked once in words and once by likelihood, judged by all rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsit_metric.errors import QSiTError
from qsit_metric.evaluation import EvaluationError, Question
from qsit_metric.evaluation.loop import Progress
from qsit_metric.evaluation.questions import Rule, check_rule, is_correct
from qsit_metric.prompts import multiple_choice

from .identity import digest, identity
from .process import Process
from .results import Results
from .run import Groups, carry_out

if TYPE_CHECKING:
    from qsit_metric import Answer, QSiT
    from qsit_metric.pipeline import Timing
    from qsit_metric.view import View

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
        rules: How answers are judged, see `qsit_metric.evaluation.questions`. "authors" and "strict" read one and the
            same written reply.
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
        from qsit_metric.view import opened

        paths = (root / questions[group[0]].image for group in todo)
        for group, view in zip(todo, opened(metric, paths, exif=exif, timing=timing), strict=True):
            for place, found in zip(
                group, _answered(view, [questions[p] for p in group], kept, max_new_tokens), strict=True
            ):
                yield _row(place, questions[place], found)

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


def _row(place: int, one: Question, found: dict[str, Any] | QSiTError) -> dict[str, Any]:
    row = {**dataclasses.asdict(one), "place": place}
    if isinstance(found, QSiTError):
        return {**row, "correct": {}, "error": f"{type(found).__name__}: {found}"}
    return {**row, **found, "error": ""}
