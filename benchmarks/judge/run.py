"""All ratings of one model's descriptions, as a resumable run: one line for each image, dimension and round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.runs import Process, Results
from benchmarks.runs.run import Groups, carry_out
from qsit_metric.batching import Timing
from qsit_metric.errors import shorten
from qsit_metric.evaluation import EvaluationError
from qsit_metric.evaluation.loop import Progress
from qsit_metric.journal import digest

from .judges import Judge, Unjudged
from .prompts import PROMPTS, messages, needs_golden, rating

ROUNDS = 5
_IN_VAIN = 8  # questions in a row, each tried several times; at a wrong address all would be asked for hours


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
