"""Batches of images: read and prepared ahead in threads, cut by a budget of tiles and tokens, computed under guard."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch

from .backends.base import Backend, Prepared
from .errors import BackendError, InputError, QSiTError, released
from .pixels import Picture, Reading, load

T = TypeVar("T")
R = TypeVar("R")
Errors = Literal["raise", "return"]

# (tiles, tokens) of one batch. On a CPU larger batches only cost memory; on a GPU these keep a 7B model under 24 GB.
# Tiles are counted as those of Q-SiT; a model with smaller ones gets as many more, else each picture is a batch.
_PATCHES = 27 * 27
_BUDGETS = {"cpu": (16, 8192), "cuda": (96, 32768), "mps": (32, 16384)}


@dataclass(frozen=True)
class Budget:
    """Limits of one batch; a single image that costs more is a batch of its own.

    Attributes:
        tiles: Vision-tower inputs.
        tokens: Image tokens after padding, that is rows times the longest row.
    """

    tiles: int
    tokens: int

    def __post_init__(self) -> None:
        for value in (self.tiles, self.tokens):
            if not isinstance(value, int) or value < 1:
                raise InputError.about("budget", (self.tiles, self.tokens), "at least one tile and one token")

    @classmethod
    def for_device(cls, device: torch.device, patches: int = _PATCHES, parallel: int = 1) -> Budget:
        """Make the default for a kind of device.

        Args:
            device: Where the model is.
            patches: Patches of one of its tiles.
            parallel: Batches that are worked on at a time.

        Example:
            >>> Budget.for_device(torch.device("cpu")), Budget.for_device(torch.device("cpu"), 64).tiles
            (Budget(tiles=16, tokens=8192), 182)
        """
        tiles, tokens = _BUDGETS.get(device.type, _BUDGETS["cpu"])
        return cls(max(1, tiles * _PATCHES // patches) * parallel, tokens * parallel)


@dataclass
class Timing:
    """Stopwatch of a stream of pictures: how long its consumer waits; for measurements.

    Attributes:
        waited: Seconds so far in which nothing was computed, since no batch was read, decoded and prepared yet.

    Example:
        >>> timing = Timing()
        >>> list(timing.watch([1, 2])), timing.waited < 1
        ([1, 2], True)
    """

    waited: float = 0.0

    def watch(self, stream: Iterable[T]) -> Iterator[T]:
        """Hand a stream on, and count the time that its next item takes to come."""
        source = iter(stream)
        while True:
            start = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - start
            yield item


def run_batches(
    backend: Backend,
    images: Iterable[Any],
    run: Callable[[list[Prepared]], Sequence[R]],
    budget: Budget,
    *,
    reading: Reading | None = None,
    timing: Timing | None = None,
) -> Iterator[R | QSiTError]:
    """Compute a result for each of a stream of images, in order: prepared ahead, computed a batch at a time.

    Args:
        backend: What prepares them.
        images: Any iterable of images; it is read a few images ahead.
        run: Prepared images of one batch -> a result for each.
        budget: Tiles and tokens of one batch.
        reading: How pictures are read.
        timing: Takes the time that the model waits for pictures.

    Yields:
        The result of each image, or its error.
    """
    prepared = ahead(images, lambda image: prepare(backend, image, reading))
    for batch in (timing or Timing()).watch(batches(prepared, budget)):
        yield from compute(batch, run, backend.device)


def prepare(backend: Backend, image: Any, reading: Reading | None = None, *, grad: bool = False) -> Prepared:
    """Read an image and make it ready for a model; safe to call from many threads.

    Args:
        backend: Whose model it is.
        image: Anything that `qsit_metric.pixels.load` takes, or a `Picture`.
        reading: How it is read.
        grad: Keep the gradient of a tensor.

    Raises:
        ImageError: It cannot be read or used.
        BackendError: The backend failed.
    """
    with computing(backend.device, grad):
        picture = image if isinstance(image, Picture) else load(image, reading)
        made = backend.prepare(picture)
        return dataclasses.replace(made, note=picture.note, source=picture.source, size=picture.size)


def ahead(items: Iterable[T], work: Callable[[T], R], workers: int | None = None) -> Iterator[R | QSiTError]:
    """Apply `work` to items in threads, in order, at most a few items ahead of the consumer.

    An item that fails with a `QSiTError` yields that error in its place.
    """
    count = workers or min(4, os.cpu_count() or 1)
    source = iter(items)
    first = list(itertools.islice(source, 2))
    if len(first) < 2:
        yield from (_caught(work, item) for item in first)
        return
    pending: deque[Future[R | QSiTError]] = deque()
    with ThreadPoolExecutor(count, thread_name_prefix="qsit-prepare") as pool:
        try:
            for item in itertools.chain(first, source):
                pending.append(pool.submit(_caught, work, item))
                if len(pending) > 2 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _caught(work: Callable[[T], R], item: T) -> R | QSiTError:
    try:
        return work(item)
    except QSiTError as error:
        return error


def batches(stream: Iterable[Prepared | QSiTError], budget: Budget) -> Iterator[list[Prepared | QSiTError]]:
    """Cut a stream into batches within the budget, in order; errors ride along and cost nothing."""
    batch: list[Prepared | QSiTError] = []
    tiles = rows = longest = 0
    for item in stream:
        if isinstance(item, Prepared):
            padded = (rows + 1) * max(longest, item.tokens)
            if rows and (tiles + item.tiles > budget.tiles or padded > budget.tokens):
                yield batch
                batch, tiles, rows, longest = [], 0, 0, 0
            tiles, rows, longest = tiles + item.tiles, rows + 1, max(longest, item.tokens)
        batch.append(item)
    if batch:
        yield batch


def compute(
    batch: Sequence[Prepared | QSiTError],
    run: Callable[[list[Prepared]], Sequence[R]],
    device: torch.device,
    grad: bool = False,
) -> list[R | QSiTError]:
    """Run a batch and put results and errors where their images were.

    A batch that fails, for want of memory or for one image's sake, is halved until it is clear which images fail.
    """
    good = [item for item in batch if isinstance(item, Prepared)]
    found = iter(_run(good, run, device, grad))
    return [next(found) if isinstance(item, Prepared) else item for item in batch]


def _run(
    batch: list[Prepared], run: Callable[[list[Prepared]], Sequence[R]], device: torch.device, grad: bool
) -> Sequence[R | QSiTError]:
    if not batch:
        return []
    try:
        with computing(device, grad):
            return run(batch)
    except QSiTError as error:
        failure = released(error)
    if len(batch) == 1:
        return [failure]
    if isinstance(failure, OutOfMemory) and torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return [*_run(batch[:half], run, device, grad), *_run(batch[half:], run, device, grad)]


def gather(stream: Iterable[Any], errors: Errors, single: bool) -> Any:
    """Collect results: the only one of a single image, or a list.

    With `errors="raise"` the first error is raised; it carries its place and what came before it, so nothing is lost.
    """
    done: list[Any] = []
    for result in stream:
        if isinstance(result, QSiTError) and errors == "raise":
            if not single:
                result.index, result.done = len(done), done
            raise result
        done.append(result)
    return done[0] if single else done


def check_errors(errors: object) -> None:
    """Refuse an unknown error policy before anything is computed."""
    if errors not in ("raise", "return"):
        raise InputError.about("errors", errors, "'raise' or 'return'")


class OutOfMemory(BackendError):
    """The device has not enough memory for a single image."""


@contextlib.contextmanager
def computing(device: torch.device, grad: bool = False) -> Iterator[None]:
    """Context of every computation: no gradient unless asked for, no ambient autocast, none but our own errors.

    A score does not depend on the caller's context; grad mode is local to a thread.
    """
    with guarded(), torch.set_grad_enabled(grad), torch.autocast(device.type, enabled=False):
        yield


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Context that lets nothing but our own errors out of a backend."""
    try:
        yield
    except QSiTError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        hint = "Use a smaller image, a smaller dtype (float16, int4), device='auto' or q-sit-mini."
        raise OutOfMemory.about("image", "<out of memory>", "an image that fits on the device", hint) from error
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError, ArithmeticError) as error:
        raise BackendError.about(
            "model", f"<{type(error).__name__}: {error}>", "a forward pass without errors"
        ) from error
