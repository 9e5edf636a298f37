"""All ratings of one model's descriptions, as a resumable run: what the judge is asked, and how its reply is read.

A run has a line for each image, dimension and round. A rating depends on the wording, so the scales keep that in which
projects that follow Q-Bench publish them: all of completeness as in MedQ-Bench's scorer, the scales of precision and
relevance; the sentences around those are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.runs import Process, Results
from benchmarks.runs.run import Groups, carry_out
from qsit_metric.batching import Timing
from qsit_metric.errors import shorten
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.loop import Progress
from qsit_metric.journal import digest

from .judges import Judge, Unjudged

ROUNDS = 5
_IN_VAIN = 8  # questions in a row, each tried several times; at a wrong address all would be asked for hours
_END = "Please only provide the result in the following format: Score:"
PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        "completeness": (
            "Evaluate whether the description [{described}] completely includes the low-level visual information in "
            "the reference description [{golden}]. Please rate score 2 for completely or almost completely including "
            "reference information, 0 for not including at all, 1 for including part of the information or similar "
            f"description. {_END}"
        ),
        "precision": (
            "Evaluate whether the description [{described}] agrees with the reference description [{golden}]. A "
            "low-level description is controversial if the reference says the opposite, such as blurry against clear, "
            "dark against bright, or noisy against clean. Please rate score 2 for totally no controversial low-level "
            "description, 1 for less controversial low-level description than matched description, 0 for more "
            f"controversial low-level description than matched description. {_END}"
        ),
        "relevance": (
            "Evaluate whether the description [{described}] is about low-level visual information (blur, noise, "
            "exposure, artifact, color, lightness, focus, composition, etc.). Please rate score 2 for completely "
            f"relevant, 1 for partly relevant, 0 for totally irrelevant. {_END}"
        ),
    }
)
"""Dimension -> text with the places of the two descriptions; relevance needs no golden one."""
_MARKUP = str.maketrans("", "", "*_`#")
_SCORE = re.compile(r"score\s*:([^\n]*)", re.IGNORECASE)
_RATINGS = ("0", "1", "2")


@dataclass(frozen=True)
class _Case:
    place: int
    image: str
    described: str
    golden: str | None
    dimension: str
    round: int

    @property
    def id(self) -> str:
        return f"{self.image}|{self.dimension}|{self.round}"

    @property
    def lacks_golden(self) -> bool:
        return self.golden is None and needs_golden(self.dimension)


def judge_run(
    judge: Judge,
    descriptions: Results,
    golden: Mapping[str, str],
    folder: Path,
    *,
    rounds: int | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    process: Process | None = None,
) -> Results:
    """Rate what has no rating yet in the run's folder; killed and started again, it goes on.

    Args:
        judge: Who judges.
        descriptions: What `describe_run` gave for one model, all of it.
        golden: Image -> what experts wrote about it. An image without it is rated by relevance only; its other ratings
            count as failed.
        folder: Of this judge on these descriptions.
        rounds: How often each rating is asked for; default: 5, or 1 of a judge that would repeat itself.
        retry_failed: Ask again for what has failed or could not be read before.
        progress: Called with (done, to do) of this process, in ratings.
        process: See `benchmarks.runs.score_run`.

    Returns:
        All rows so far: "image", "dimension", "round" (from 1), "reply", "rating" (0, 1, 2), and "error" where there is
        no rating; a reply that was not understood is kept in the row.

    Raises:
        EvaluationError: Descriptions that are not complete; the judge cannot be reached, refuses, or gives no usable
            reply to several questions in a row; or as for `Run`. What was rated before is kept.
    """
    count = rounds or (1 if judge.deterministic else ROUNDS)
    cases = _cases(_described(descriptions), golden, count)

    def work(todo: Groups, timing: Timing | None) -> Iterator[dict[str, Any]]:
        return _rows(judge, [cases[place] for group in todo for place in group])

    return carry_out(
        folder, _identity(judge, descriptions, cases, count), [case.id for case in cases],
        [[case.place] for case in cases], work,
        timed=False, process=process, retry_failed=retry_failed, progress=progress,
    )  # fmt: skip


def _described(descriptions: Results) -> Mapping[str, str]:
    if descriptions.run["kind"] != "descriptions" or not descriptions.complete or not descriptions.good:
        hint = f"{len(descriptions.rows)} of {descriptions.total} are there, {len(descriptions.failed)} failed."
        expected = "a complete run of descriptions with at least one that worked"
        raise EvaluationError.about("descriptions", str(descriptions.folder), expected, hint)
    return {row["image"]: row["reply"] for row in descriptions.good}


def _cases(described: Mapping[str, str], golden: Mapping[str, str], rounds: int) -> list[_Case]:
    """Round by round, so that a run that was cut has whole ones."""
    asked = [(image, one, number) for number in range(1, rounds + 1) for image in described for one in PROMPTS]
    return [
        _Case(place, image, described[image], golden.get(image), one, number)
        for place, (image, one, number) in enumerate(asked)
    ]


def _identity(judge: Judge, descriptions: Results, cases: Sequence[_Case], rounds: int) -> dict[str, Any]:
    described = descriptions.run
    fields = [{"id": one.id, "described": one.described, "golden": one.golden} for one in cases]
    return {
        "kind": "judgements", "set": described["set"], "n": len(cases), "sha256": digest(fields),
        "made": described["made"], "exif": described["exif"], "judge": dict(judge.facts), "rounds": rounds,
        "prompts": digest([dict(PROMPTS)]), "images": len(descriptions.good),
        "descriptions_failed": len(descriptions.failed), "described_with": described["prompt"],
    }  # fmt: skip


def _rows(judge: Judge, cases: Sequence[_Case]) -> Iterator[dict[str, Any]]:
    for case in cases:
        if case.lacks_golden:
            yield _row(case, None, "the golden file has no text for this image")
    for case, done in _asked(judge, [case for case in cases if not case.lacks_golden]):
        yield _row(case, None, str(done.exception())) if done.exception() else _row(case, done.result())


def _row(case: _Case, reply: str | None, error: str = "") -> dict[str, Any]:
    found = None if reply is None else rating(reply)
    if reply is not None and found is None:
        error = f"no rating in the reply {shorten(reply)}"
    return {
        "id": case.id, "place": case.place, "image": case.image, "dimension": case.dimension, "round": case.round,
        "reply": reply, "rating": found, "error": error,
    }  # fmt: skip


def _asked(judge: Judge, cases: Sequence[_Case]) -> Iterator[tuple[_Case, Future[str]]]:
    """Ask several at a time; if going on makes no sense, what is still under way comes first, then the error."""
    rest = iter(cases)
    pending: dict[Future[str], _Case] = {}
    in_vain: list[Future[str]] = []
    with ThreadPoolExecutor(judge.workers) as pool:
        while True:
            for case in islice(rest, judge.workers - len(pending)):
                said = messages(case.dimension, case.described, case.golden)
                pending[pool.submit(judge.reply, said)] = case
            if not pending:
                return
            done = list(wait(pending, return_when=FIRST_COMPLETED).done)
            fatal = next(filter(None, map(_fatal, done)), None)
            for future in list(pending) if fatal else done:
                case = pending.pop(future)
                if not _fatal(future):
                    in_vain = [*in_vain, future] if future.exception() else []
                    yield case, future
            if fatal:
                raise fatal
            if len(in_vain) >= _IN_VAIN:
                raise _useless(in_vain)


def _useless(asked: Sequence[Future[str]]) -> EvaluationError:
    hint = "Check --judge-url and --judge; what was judged is kept, and --retry-failed asks again."
    return EvaluationError(
        f"The judge gave no usable reply to {len(asked)} questions in a row: {asked[-1].exception()}. {hint}"
    )


def _fatal(future: Future[str]) -> BaseException | None:
    error = future.exception()
    return None if isinstance(error, Unjudged) else error


def needs_golden(dimension: str) -> bool:
    """Whether a dimension compares with the golden text."""
    return "{golden}" in PROMPTS[dimension]


def messages(dimension: str, described: str, golden: str | None = None) -> list[dict[str, str]]:
    """The conversation that asks for one rating; a single turn, since not every model knows a system turn.

    Args:
        dimension: A key of `PROMPTS`.
        described: What a model wrote about the image.
        golden: What experts wrote; may be None for relevance.

    Raises:
        EvaluationError: An unknown dimension, or no golden text where one is needed.

    Example:
        >>> messages("relevance", "A dark street.")[0]["content"][:49]
        'Evaluate whether the description [A dark street.]'
    """
    if dimension not in PROMPTS or (golden is None and needs_golden(dimension)):
        expected = f"one of {', '.join(PROMPTS)}, with a golden text but for relevance"
        raise EvaluationError.about("dimension, golden", (dimension, golden), expected)
    # Not `format`: a description may have braces.
    text = re.sub(
        r"\{(\w+)\}", lambda place: str({"described": described, "golden": golden}[place[1]]), PROMPTS[dimension]
    )
    return [{"role": "user", "content": text}]


def rating(reply: str) -> int | None:
    r"""The rating that a reply gives: what stands alone behind "Score:", or the reply if it is nothing but a digit.

    Nothing is guessed: another number, a range, a word behind the digit, or two ratings that differ give none.

    Args:
        reply: The judge's words; marks of Markdown do not count.

    Returns:
        0, 1 or 2; None if the reply gives no rating.

    Example:
        >>> rating("Score: 2"), rating("It has most of it.\n**Score:** 1."), rating("0")
        (2, 1, 0)
        >>> rating("Score: 1.5"), rating("Score: 1 or 2"), rating("I would say 2")
        (None, None, None)
    """
    text = reply.translate(_MARKUP)
    said = [_alone(rest) for rest in _SCORE.findall(text)] or [_alone(text)]
    return int(said[0]) if said[0] in _RATINGS and len(set(said)) == 1 else None


def _alone(text: str) -> str:
    """Text without the space, brackets and full stop around it."""
    return text.strip().strip("[]()").removesuffix(".").strip()
