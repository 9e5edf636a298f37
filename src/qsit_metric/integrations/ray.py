"""Q-SiT on Ray Data: `Scorer` and `Asker` for `map_batches`, `pool` for the actors, and what `qsit score --ray` runs.

Host: github.com/ray-project/ray. Importing this module imports Ray. Pictures travel as bytes: Ray's image reader stops
at broken files, loses others, ignores EXIF and changes 16-bit pictures.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..errors import BackendError, InputError, QSiTError
from ..packages import require
from ..sources import Chunk, Shard, Wanted, chunks
from ..work import Asking, Row, Scoring, Work, answered, load, told

require("ray", "ray", least="2.40", below="3")

import ray  # noqa: E402
import ray.data  # noqa: E402

__all__ = ["Asker", "Pool", "Scorer", "connect", "pool", "run"]

Batch: TypeAlias = "dict[str, Any]"
_PER_ACTOR = 4  # CPUs that one actor takes where there are many: a pass over one batch gains little from more
_ATTEMPTS = 3
_PATIENCE = 10.0  # seconds until a cluster has answered
_HALF = 0.5  # of a CPU: what a reader takes where there are few


# ---- actors


class Scorer:
    """A callable for `Dataset.map_batches`: a column of encoded pictures in, their scores out.

    Args:
        model: As for `QSiT`: a name, a Hub repository or a folder; it is loaded once in each actor.
        device: Default: cuda if the actor has a GPU, else cpu.
        dtype: Default: float16 on cuda, else float32.
        column: The column with the pictures' bytes.
        threads: Torch threads; default: the CPUs that the actor holds (`pool` says how many). Ray sets one.
        **options: Other arguments of `QSiT`: revision, recipe, token ..., and how pictures are read (exif, bits ...).

    A call gives every column but that of the bytes, and `score` (1..5, higher is better), `unit` (0..1), `level`,
    `probabilities` (of each level, worst first), `note` and `error`: what is None says that there is nothing. A picture
    that cannot be read is a row with `error`.

    Raises:
        QSiTError: The model, as for `QSiT`.
        InputError: No such column.

    Example:
        >>> files = ray.data.read_binary_files("photos/", include_paths=True)  # doctest: +SKIP
        >>> files.map_batches(Scorer, fn_constructor_kwargs={"model": "q-sit-mini"}, **pool())  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = "q-sit-mini",
        device: str | None = None,
        dtype: str | None = None,
        *,
        column: str = "bytes",
        threads: int | None = None,
        **options: Any,
    ) -> None:
        self._metric = _load({"model": model, "device": device, "dtype": dtype, **options}, threads)
        self._column = column

    def __call__(self, batch: Batch) -> Batch:
        """Score a batch."""
        found = self._metric.score(_pictures(batch, self._column), errors="return")
        rows = [Scoring().rows(one)[0] for one in found]
        rest = {name: values for name, values in batch.items() if name != self._column}
        return {**rest, **_columns(rows)}


class Asker:
    """A callable for `Dataset.map_batches`: a column of encoded pictures in, the answers to one question out.

    Args:
        question: What each picture is asked.
        choices: 2 to 26 possible answers.
        model: See `Scorer`, also for the arguments that follow.
        device: See `Scorer`.
        dtype: See `Scorer`.
        method: See `QSiT.ask`.
        column: See `Scorer`.
        threads: See `Scorer`.
        **options: See `Scorer`.

    A call gives every column but that of the bytes, and `question`, `answer`, `choice`, `probabilities` (of each
    choice, in their order) and `error`.
    """

    def __init__(
        self,
        question: str,
        choices: Sequence[str],
        model: str = "q-sit-mini",
        device: str | None = None,
        dtype: str | None = None,
        *,
        method: str = "likelihood",
        column: str = "bytes",
        threads: int | None = None,
        **options: Any,
    ) -> None:
        self._metric = _load({"model": model, "device": device, "dtype": dtype, **options}, threads)
        self._work = Asking((question,), tuple(choices), method)
        self._column = column

    def __call__(self, batch: Batch) -> Batch:
        """Ask a batch."""
        found = self._work.results(self._metric, iter(_pictures(batch, self._column)))
        rows = [self._work.rows(one)[0] for one in found]
        rest = {name: values for name, values in batch.items() if name != self._column}
        return {**rest, **_columns(rows)}


def _load(arguments: Mapping[str, Any], threads: int | None) -> Any:
    """Build the metric of an actor, with the threads that it may use."""
    import torch

    torch.set_num_threads(threads or _threads())
    return load(arguments)


def _threads() -> int:
    """The CPUs that this actor holds; of a small machine all, since reading leaves the last one mostly idle."""
    held = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0)) if ray.is_initialized() else 0
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(there, held + 1 if there <= _PER_ACTOR else held))


def _pictures(batch: Batch, column: str) -> list[bytes]:
    if column not in batch:
        raise InputError.about("column", column, f"one of {', '.join(batch)}", "`read_binary_files` gives `bytes`.")
    return [bytes(one) if one is not None else b"" for one in batch[column]]


def _columns(rows: Sequence[Row]) -> Batch:
    """Rows as columns; objects, so that None stays None."""
    names = [("probabilities" if name == "probs" else name, name) for name in (rows[0] if rows else {})]
    made = {}
    for shown, name in names:
        made[shown] = np.empty(len(rows), dtype=object)
        made[shown][:] = [row[name] for row in rows]
    return made


# ---- how many actors


@dataclass(frozen=True)
class Pool:
    """Actors that a cluster has room for, with something left for reading.

    Attributes:
        actors: How many.
        cpus: That each holds.
        gpus: That each holds.
        reading: CPUs of a reading task.
    """

    actors: int
    cpus: float
    gpus: float = 0.0
    reading: float = 1.0

    @classmethod
    def fitting(cls, nodes: Sequence[tuple[float, float]], *, gpu: bool, actors: int | None = None) -> Pool:
        """Choose a pool.

        Args:
            nodes: (CPUs, GPUs) of each node that are free.
            gpu: Whether the model runs on GPUs.
            actors: How many are wanted; default: one for each GPU, or one for every four CPUs.

        Raises:
            InputError: There is no room for them: they would wait for ever.

        Example:
            >>> Pool.fitting([(2, 0)], gpu=False), Pool.fitting([(64, 8)], gpu=True).actors
            (Pool(actors=1, cpus=1, gpus=0.0, reading=1.0), 8)
        """
        cpus, gpus = (sum(one) for one in zip(*nodes, strict=True)) if nodes else (0, 0)
        room = int(gpus) if gpu else max(1, int(cpus) - 1) if cpus else 0
        if not room:
            what = "GPU" if gpu else "CPU"
            raise InputError.about("--ray-address", f"<{cpus:g} CPUs, {gpus:g} GPUs>", f"a cluster with a free {what}")
        if actors is not None and not 1 <= actors <= room:
            hint = "One CPU has to be left for reading." if not gpu else "Each takes a GPU."
            expected = f"1 to {room}, since {cpus:g} CPUs and {gpus:g} GPUs are free"
            raise InputError.about("--ray-actors", actors, expected, hint)
        if cpus < 2:
            return cls(actors or room, _HALF / (actors or room), float(gpu), _HALF)
        return cls._on(nodes, cpus, actors or (room if gpu else max(1, room // _PER_ACTOR)), gpu)

    @classmethod
    def _on(cls, nodes: Sequence[tuple[float, float]], cpus: float, actors: int, gpu: bool) -> Pool:
        """The most CPUs for each actor with which all of them find a place."""
        each = max(1, int(cpus - 1) // actors)
        while each > 1 and cls._places(nodes, each, gpu) < actors:
            each -= 1
        if cls._places(nodes, each, gpu) >= actors and actors * each < cpus:
            return cls(actors, each, float(gpu))
        return cls(actors, (cpus - 1) / actors / 2 if gpu else each, float(gpu))

    @staticmethod
    def _places(nodes: Sequence[tuple[float, float]], each: float, gpu: bool) -> int:
        return sum(min(int(cpus // each), int(gpus) if gpu else int(cpus)) for cpus, gpus in nodes)

    def arguments(self) -> dict[str, Any]:
        """What `map_batches` is told."""
        strategy = ray.data.ActorPoolStrategy(size=self.actors)
        return {"compute": strategy, "num_cpus": self.cpus, "num_gpus": self.gpus or None}


def pool(device: str | None = None, actors: int | None = None) -> dict[str, Any]:
    """Arguments of `map_batches` for as many actors as the cluster has room for.

    Args:
        device: Where the model will run; default: on GPUs if there are any.
        actors: How many; default: one for each GPU, or one for every four CPUs.

    Raises:
        InputError: They would wait for ever: no room for them, or no CPU left for reading.
    """
    return _pool(device, actors).arguments()


def _pool(device: str | None, actors: int | None) -> Pool:
    if not ray.is_initialized():
        connect()
    nodes = [_room(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    wants = str(device or "").startswith("cuda") or (device is None and any(gpus for _, gpus in nodes))
    return Pool.fitting(nodes, gpu=wants, actors=actors)


def _room(resources: Mapping[str, float]) -> tuple[float, float]:
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0)


def connect(address: str | None = None) -> None:
    """Join a cluster, or begin one on this machine for this process.

    Args:
        address: HOST:PORT; default: the variable RAY_ADDRESS, else a new one. One that an ended run left behind is
            never joined by accident.

    Raises:
        InputError: Nobody answers there, or this machine is too busy to begin one in time.
    """
    place = address or os.environ.get("RAY_ADDRESS") or "local"
    settings: dict[str, Any] = {"address": place, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if place not in ("local", "auto"):
            _knock(place)
        _init(settings, attempts=_ATTEMPTS if place == "local" else 1)
    except Exception as error:  # a node that does not start in time is a bare Exception
        ray.shutdown()
        said = str(error).split("\n", maxsplit=1)[0]
        expected = "a machine on which Ray starts" if place == "local" else "a Ray cluster that answers"
        raise InputError.about("--ray-address", place, expected, f"Ray says: {said}") from error


def _init(settings: Mapping[str, Any], attempts: int) -> None:
    """Start; a node gives its agent 15 seconds (Ray 2.60, ray issue 65983), which is too little on a busy machine."""
    try:
        ray.init(**settings)
    except Exception:
        if attempts < 2:
            raise
        ray.shutdown()
        _init(settings, attempts - 1)


def _knock(address: str) -> None:
    """See whether anybody answers: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=_PATIENCE):
        pass


# ---- the command


@dataclass(frozen=True)
class _Task:
    """What a reader gets: a shard, and which of its pictures are there already."""

    shard: Shard
    known: bytes


class _Worker:
    """The actor of `run`: packed chunks in, packed rows out. What is wrong with the model is told in the first."""

    def __init__(self, arguments: Mapping[str, Any], work: Work) -> None:
        self._work = work
        self._error: QSiTError | None = None
        try:
            self._metric = _load(arguments, None)
            self._told = told(self._metric, work)
        except QSiTError as error:
            self._error = error

    def __call__(self, batch: Batch) -> Batch:
        packed = [pickle.dumps(self._answer(pickle.loads(one))) for one in batch["packed"]]
        return {"packed": np.array(packed, dtype=object)}

    def _answer(self, chunk: Chunk) -> Any:
        if self._error:
            return self._error
        try:
            return (*self._told, *next(answered([chunk], self._work, self._metric)))
        except QSiTError as error:  # such as choices that the model cannot tell apart
            return error


def _read(row: Mapping[str, Any], wanted: Wanted) -> Iterator[dict[str, bytes]]:
    task: _Task = pickle.loads(row["packed"])
    for chunk in chunks(task.shard, wanted, task.known):
        yield {"packed": pickle.dumps(chunk)}


def run(
    shards: Iterable[tuple[Shard, bytes]],
    wanted: Wanted,
    work: Work,
    model: Mapping[str, Any],
    *,
    address: str | None = None,
    actors: int | None = None,
) -> Iterator[tuple[dict[str, Any], tuple[str, ...], Chunk, list[Row]]]:
    """Do the work on shards with all devices of a cluster.

    Args:
        shards: What is read, and which pictures of it are not wanted any more.
        wanted: What is taken of it.
        work: What is done with each picture.
        model: Arguments of `QSiT`.
        address: Of the cluster; default: the variable RAY_ADDRESS, else one on this machine for this run.
        actors: How many; default: what the cluster has room for.

    Yields:
        For each chunk, as it is done: `QSiT.info` of the actor, what the probabilities are called, the chunk without
        pictures, and its rows. The first chunk is empty, so that the model is known before a result comes.

    Raises:
        InputError: No such cluster, or no room in it.
        BackendError: Ray gave up.
        QSiTError: The model.
    """
    mine = not ray.is_initialized()
    if mine:
        connect(address)
    try:
        chosen = _pool(model.get("device"), actors)
        with _quiet():
            yield from map(_unpacked, _rows(shards, wanted, work, model, chosen))
    except ray.exceptions.RayError as error:
        said = str(error).strip().split("\n")[-1]
        hint = f"{said} Run the same command again to go on."
        raise BackendError.about("--ray", f"<{type(error).__name__}>", "workers that stay alive", hint) from error
    finally:
        if mine:
            ray.shutdown()


def _rows(
    shards: Iterable[tuple[Shard, bytes]], wanted: Wanted, work: Work, model: Mapping[str, Any], chosen: Pool
) -> Iterator[bytes]:
    """The pipeline: tasks that read, actors that work. A row holds a chunk, and is a block of its own."""
    tasks = [{"packed": pickle.dumps(_Task(shard, known))} for shard, known in shards]
    empty = {"packed": pickle.dumps(_Task(Shard("", "pictures"), b""))}
    read = ray.data.from_items([empty, *tasks], override_num_blocks=len(tasks) + 1).flat_map(
        _read, fn_args=(wanted,), num_cpus=chosen.reading
    )
    done = read.map_batches(
        _Worker,
        batch_size=1,
        fn_constructor_kwargs={"arguments": dict(model), "work": work},
        **chosen.arguments(),
    )
    for row in done.iter_rows():
        yield row["packed"]


def _unpacked(packed: bytes) -> tuple[dict[str, Any], tuple[str, ...], Chunk, list[Row]]:
    found: Any = pickle.loads(packed)
    if isinstance(found, QSiTError):
        raise found
    return found  # type: ignore[no-any-return]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data without bars of its own, and with blocks of one row, so that rows come as they are done."""
    context = ray.data.DataContext.get_current()
    before = context.target_max_block_size, context.enable_progress_bars, context.print_on_execution_start
    logger = logging.getLogger("ray.data")
    level = logger.level
    context.target_max_block_size, context.enable_progress_bars, context.print_on_execution_start = 1, False, False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.target_max_block_size, context.enable_progress_bars, context.print_on_execution_start = before
        logger.setLevel(level)
