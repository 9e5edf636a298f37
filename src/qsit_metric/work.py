"""What is done with the pictures of shards: chunks in, plain rows out; the same in one process and on a cluster.

A row is a dict that any process can read: where the picture stands, what the model said, or why it said nothing.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import QSiTError
from .files import Stamp
from .sources import ROWS, Chunk, Item

if TYPE_CHECKING:
    from .metric import QSiT

Row: TypeAlias = dict[str, Any]
_NUMBERS = {"score": None, "unit": None, "level": None, "probs": None, "note": None}


@dataclass(frozen=True)
class Scoring:
    """Score each picture.

    A row's own fields: score, unit, level, probs (worst level first), note, error; None where there is nothing.
    """

    questions: tuple[str, ...] = ()

    def names(self, metric: QSiT) -> tuple[str, ...]:
        """What the probabilities are called: the levels, worst first."""
        from .results import level_names

        return level_names(metric.recipe.words)

    def results(self, metric: QSiT, contents: Iterator[bytes]) -> Iterator[Any]:
        """A `Score` or an error for each picture."""
        return metric.score_iter(contents, errors="return")

    def rows(self, result: Any) -> list[Row]:
        """The row of a result."""
        if isinstance(result, QSiTError):
            return [{**_NUMBERS, "error": reason(result)}]
        return [{**_NUMBERS, **result.as_dict(), "error": None}]


@dataclass(frozen=True)
class Asking:
    """Ask each picture questions with choices.

    Attributes:
        questions: One or several.
        choices: The possible answers.
        method: As in `QSiT.ask`.

    One row for each question; its own fields: question, answer, choice, probs (in the order of the choices), error.
    """

    questions: tuple[str, ...]
    choices: tuple[str, ...]
    method: Any = "likelihood"

    def names(self, metric: QSiT) -> tuple[str, ...]:
        """What the probabilities are called: the choices."""
        del metric
        return self.choices

    def results(self, metric: QSiT, contents: Iterator[bytes]) -> Iterator[Any]:
        """A list of answers, one for each question, or an error for each picture."""
        settings = {"choices": self.choices, "method": self.method, "errors": "return"}
        while batch := list(islice(contents, ROWS)):
            yield from metric.ask(batch, list(self.questions), **settings)

    def rows(self, result: Any) -> list[Row]:
        """The rows of a result."""
        if isinstance(result, QSiTError):
            nothing = {"answer": None, "choice": None, "probs": None, "error": reason(result)}
            return [{"question": question, **nothing} for question in self.questions]
        return [
            {"question": question, "answer": str(one), "choice": one.choice, "probs": one.probs or None, "error": None}
            for question, one in zip(self.questions, result, strict=True)
        ]


Work: TypeAlias = Scoring | Asking


def load(arguments: Mapping[str, Any]) -> QSiT:
    """Build the metric; only here torch is imported."""
    from .metric import QSiT

    return QSiT(**arguments)


def told(metric: QSiT, work: Work) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What made the rows (`QSiT.info`, with the reading of pictures), and what the probabilities are called."""
    return {**metric.info, "reading": metric.reading.recorded()}, work.names(metric)


def reason(error: QSiTError) -> str:
    """Why a picture failed, on one line; its name stands beside it."""
    said = error.reason if error.argument == "image" else str(error)
    return " ".join(said.split("\n"))


def answered(chunks: Iterable[Chunk], work: Work, metric: QSiT) -> Iterator[tuple[Chunk, list[Row]]]:
    """Do the work on a stream of chunks, in order; batches reach across their ends.

    Yields:
        Each chunk, without the pictures, and its rows.
    """
    waiting: deque[tuple[Chunk, list[Any]]] = deque()
    found = work.results(metric, _contents(chunks, waiting))
    for result in found:
        while not _open(waiting[0]):
            yield _closed(*waiting.popleft(), work)
        results = waiting[0][1]
        results[results.index(None)] = result
    while waiting:
        yield _closed(*waiting.popleft(), work)


def _contents(chunks: Iterable[Chunk], waiting: deque[tuple[Chunk, list[Any]]]) -> Iterator[bytes]:
    for chunk in chunks:
        waiting.append((chunk, [item.error for item in chunk.items]))
        for item in chunk.items:
            if item.content is not None:
                yield item.content


def _open(waiting: tuple[Chunk, list[Any]]) -> bool:
    return None in waiting[1]


def _closed(chunk: Chunk, results: Sequence[Any], work: Work) -> tuple[Chunk, list[Row]]:
    pairs = zip(chunk.items, results, strict=True)
    rows = [{**_place(chunk, item), **one} for item, result in pairs for one in work.rows(result)]
    return Chunk(chunk.shard, (), chunk.share, chunk.rows, chunk.left_out, chunk.error), rows


def _place(chunk: Chunk, item: Item) -> Row:
    stamp = item.stamp or Stamp(0, "", "")
    seen = {"size": stamp.size or None, "modified": stamp.modified or None, "sha256": stamp.sha256 or None}
    kept = {name: plain(value) for name, value in item.kept.items()}
    return {"path": item.path, "shard": chunk.shard.place, "index": item.index, **seen, "kept": kept}


def plain(value: Any) -> Any:
    """A value that JSON can hold: what is no text, number, list or object becomes text, a NaN nothing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return json.loads(json.dumps(value, default=str))
