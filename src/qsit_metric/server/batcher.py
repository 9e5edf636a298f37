"""The queue of the server: pictures of all clients in one line, one thread that hands them to the model in batches."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, QSiTError
from ..results import Score

if TYPE_CHECKING:
    from ..metric import QSiT

_LINGER = 0.002  # seconds that a batch waits for one more picture


class Full(BackendError):
    """The queue has no room for a request now; it may come again."""


@dataclass
class _Job:
    """A picture to score, or, with `call`, something else that needs the model."""

    picture: bytes = b""
    call: Callable[[QSiT], Any] | None = None
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """One thread that computes what many threads ask for, first come, first served.

    Pictures that stand behind each other in the queue are scored as one stream, so they fill batches up to the metric's
    budget, and those that come meanwhile join it.

    Args:
        metric: The model; nobody else computes with it.
        limit: Places in the queue. A picture takes one, a question or a map as well.

    Example:
        >>> batcher = Batcher(metric, limit=256)  # doctest: +SKIP
        >>> batcher.score([content])[0].result()  # doctest: +SKIP
        Score(3.8712, good)
    """

    def __init__(self, metric: QSiT, limit: int) -> None:
        self.metric, self.limit = metric, limit
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._taken, self._lock, self._closed = 0, threading.Lock(), False
        self._next: list[_Job | None] = []  # what ended a stream of pictures, to be done after it
        self._thread = threading.Thread(target=self._work, name="qsit-serve", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Pictures and questions that are not answered yet."""
        return self._taken

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._closed

    def score(self, pictures: Sequence[bytes]) -> list[Future[Score | QSiTError]]:
        """Put pictures into the queue, all or none.

        Returns:
            For each the future of its score or its error; a cancelled one is not computed.

        Raises:
            Full: There is no room for all of them, or the server stops.
        """
        return self._put([_Job(picture) for picture in pictures])

    def call(self, work: Callable[[QSiT], Any]) -> Future[Any]:
        """Put something else that needs the model into the queue.

        Raises:
            Full: There is no room, or the server stops.
        """
        return self._put([_Job(call=work)])[0]

    def close(self) -> None:
        """Finish what is in the queue, take nothing new, and end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _put(self, jobs: list[_Job]) -> list[Future[Any]]:
        with self._lock:
            if self._closed or self._taken + len(jobs) > self.limit:
                state = "<it stops>" if self._closed else f"<{self._taken} of {self.limit} places taken>"
                raise Full.about("queue", state, f"room for {len(jobs)} more", "Try again in a moment.")
            self._taken += len(jobs)
            for job in jobs:
                job.future.add_done_callback(self._leave)
                self._queue.put(job)
        return [job.future for job in jobs]

    def _leave(self, _: Future[Any]) -> None:
        with self._lock:
            self._taken -= 1

    # ---- in the thread

    def _work(self) -> None:
        while (job := self._next.pop() if self._next else self._queue.get()) is not None:
            if job.call is not None:
                self._call(job)
            else:
                self._stream(job)

    def _call(self, job: _Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            job.future.set_result(job.call(self.metric) if job.call else None)
        except Exception as error:  # noqa: BLE001  # the thread lives on, whoever asked is told
            job.future.set_exception(error)

    def _stream(self, first: _Job) -> None:
        """Score pictures as long as they come."""
        running: deque[_Job] = deque()
        try:
            for found in self.metric.score_iter(self._pictures(first, running), errors="return"):
                running.popleft().future.set_result(found)
        except Exception as error:  # noqa: BLE001  # as above
            for job in running:
                job.future.set_exception(error)

    def _pictures(self, first: _Job, running: deque[_Job]) -> Iterator[bytes]:
        job: _Job | None = first
        while job is not None and job.call is None:
            if job.future.set_running_or_notify_cancel():
                running.append(job)
                yield job.picture
            try:
                job = self._queue.get(timeout=_LINGER)
            except queue.Empty:
                return
        self._next.append(job)
