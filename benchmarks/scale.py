"""What does scale cost? Ray against a plain list, many tiny pictures in bounded memory, and kills at random moments.

    python -m benchmarks.scale ray --images 1000
    python -m benchmarks.scale tiny --counts 2000 --counts 200000
    python -m benchmarks.scale kills --images 2000 --ray

`ray` scores photographs of many sizes with `QSiT.score(list)` and with `qsit score --ray`, in one run, with
q-sit-nano; Ray's start and the loading of the model are reported apart. `tiny` runs `qsit score` over tar shards of
pictures of 16 x 16 with a simulated model, which only decodes them: what is measured is all that is around the model.
`kills` ends a run with SIGKILL at three random moments and goes on with it.
"""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import typer
from PIL import Image

from benchmarks.cost.child import in_child
from benchmarks.cost.clock import peak_memory, seconds
from benchmarks.cost.mixed import mixed_sizes, photo
from benchmarks.cost.report import RESULTS, Report, compared, conditions, measured
from qsit_metric import QSiT, console
from qsit_metric.cli import sharded
from qsit_metric.cli.command import Command
from qsit_metric.cli.options import ModelOptions
from qsit_metric.prompts import AUTHORS
from qsit_metric.results import Score
from qsit_metric.sources import Wanted, of_pictures
from qsit_metric.work import Scoring

MODEL = "q-sit-nano"
RAY_TARGET, FLAT_TARGET = 0.85, 0.9
_LEVELS = ("bad", "poor", "fair", "good", "excellent")
_COMMAND = "import sys; from qsit_metric.cli import main; sys.exit(main())"
_SHARD = 5_000

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The CSV; it is replaced.")]
Images = Annotated[int, typer.Option("--images", min=2, help="How many pictures.")]
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


# ---- Ray against a plain list


@app.command("ray", cls=Command)
def against_ray(
    images: Images = 1000,
    address: Annotated[str | None, typer.Option("--ray-address", metavar="HOST:PORT", help="A cluster.")] = None,
    output: Output = RESULTS / "scale-ray.csv",
) -> None:
    """Score mixed photographs with a list and with Ray, in one run."""
    from qsit_metric.integrations import ray as engine

    report = Report(output, conditions(torch.device("cpu"), "float32", MODEL))
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for place, (width, height) in enumerate(mixed_sizes(images)):
            paths.append(str(Path(folder) / f"{place:05d}.jpg"))
            photo(width, height, seed=place).save(paths[-1], quality=90)
        metric = QSiT(MODEL, device="cpu")
        metric.score(paths[:32])
        spent = seconds(lambda: metric.score(paths), torch.device("cpu"))
        began = time.perf_counter()
        engine.connect(address)
        started = time.perf_counter()
        shards = [(shard, b"") for shard in of_pictures(paths)]
        times, scored = [], 0
        for _, _, _, rows in engine.run(shards, Wanted(), Scoring(), {"model": MODEL, "device": "cpu"}):
            times.append((time.perf_counter(), len(rows)))
            scored += len(rows)
    loaded, ended = times[0][0], times[-1][0]
    console.write(f"{scored} rows; Ray started in {started - began:.1f} s, model loaded in {loaded - started:.1f} s\n")
    compare = [
        measured("mixed photographs", "512x384-1800x1350", name, [images / one], unit="images/s")
        for name, one in (("score(list)", spent), ("ray", ended - loaded))
    ]
    compare[1].target = RAY_TARGET
    report.add(compared(compare))
    report.show()


# ---- many tiny pictures


@app.command(cls=Command)
def tiny(
    counts: Annotated[list[int], typer.Option("--counts", metavar="N", help="Pictures; repeat it.")] = [2_000, 200_000],  # noqa: B006  # typer's way
    output: Output = RESULTS / "scale-tiny.csv",
) -> None:
    """Put tiny pictures in tar shards through the command with a simulated model, each count in its own process."""
    report = Report(output, conditions(torch.device("cpu"), "simulated", "simulated"))
    found = [in_child("benchmarks.scale:tiny_run", count) for count in counts]
    costs = [
        measured(f"cost of {count}", "16x16", "qsit score", [1e3 * one["seconds"] / count], unit="ms")
        for count, one in zip(counts, found, strict=True)
    ]
    memory = [
        measured(f"memory of {count}", "16x16", "qsit score", [one["peak"]], unit="MiB")
        for count, one in zip(counts, found, strict=True)
    ]
    costs[-1].target = FLAT_TARGET
    report.add(compared(costs))
    report.add(compared(memory))
    report.show()


def tiny_run(count: int) -> dict[str, float]:
    """Score so many pictures in shards, after a small run that does not count: seconds and peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        for name, number in (("warm", 500), ("counted", count)):
            _shards(Path(folder) / name, number)
        _command(Path(folder) / "warm", Path(folder) / "out-warm")
        spent = seconds(lambda: _command(Path(folder) / "counted", Path(folder) / "out"), torch.device("cpu"))
        rows = _count(Path(folder) / "out")
    if rows != Counter({1: count}):
        raise RuntimeError(f"{count} pictures gave {rows}")
    return {"seconds": spent, "peak": peak_memory(torch.device("cpu"))}


def _shards(folder: Path, count: int) -> None:
    folder.mkdir()
    content = io.BytesIO()
    Image.new("RGB", (16, 16), "gray").save(content, "PNG")
    for start in range(0, count, _SHARD):
        with tarfile.open(folder / f"{start:08d}.tar", "w") as tar:
            for place in range(start, min(start + _SHARD, count)):
                member = tarfile.TarInfo(f"{place:08d}.png")
                member.size = content.tell()
                tar.addfile(member, io.BytesIO(content.getvalue()))


def _command(shards: Path, out: Path) -> None:
    sharded.score([str(shards)], sharded.Job(out), sharded.ShardOptions(), _Simulated(), recursive=False, null=False)


def _count(out: Path) -> Counter[int]:
    """How often there are how many rows of one picture."""
    from pyarrow import parquet

    table = parquet.read_table(out, columns=["shard", "index"])
    return Counter(Counter(zip(table["shard"].to_pylist(), table["index"].to_pylist(), strict=True)).values())


class _Simulated(ModelOptions):
    """A model that decodes pictures and says the same of each."""

    def load(self) -> Any:
        """Build it."""
        names = ("model", "repo", "revision", "recipe", "dtype", "backend", "qsit_metric")
        reading = SimpleNamespace(recorded=dict)
        return SimpleNamespace(
            info=dict.fromkeys(names, "simulated"), recipe=AUTHORS, score_iter=_same, reading=reading
        )


def _same(contents: Iterable[bytes], **_: Any) -> Iterator[Score]:
    for content in contents:
        Image.open(io.BytesIO(content)).load()
        yield Score(3.0, dict.fromkeys(_LEVELS, 0.2))


# ---- kills


@app.command(cls=Command)
def kills(
    images: Images = 2000,
    ray: Annotated[bool, typer.Option("--ray", help="With Ray.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the moments.")] = 0,
) -> int:
    """Kill a run at three random moments, go on, and compare with a run that was left alone."""
    moments = sorted(random.Random(seed).sample(range(images // 20, images - images // 20), 3))
    with tempfile.TemporaryDirectory() as folder:
        tar, out, alone = Path(folder) / "a.tar", Path(folder) / "out.jsonl", Path(folder) / "alone.jsonl"
        with tarfile.open(tar, "w") as file:
            for place in range(images):
                content = io.BytesIO()
                photo(64, 48, seed=place).save(content, "PNG")
                member = tarfile.TarInfo(f"{place:06d}.png")
                member.size = content.tell()
                file.addfile(member, io.BytesIO(content.getvalue()))
        for moment in moments:
            console.write(f"killed with {_killed(tar, out, moment, ray)} rows\n")
        for one in (out, alone):
            subprocess.run(_typed(tar, one, ray and one == out), check=True)
        same = _read(out) == _read(alone) and Counter(_read(out).values()) == Counter({1: images})
    console.write("the same results\n" if same else "OTHER results\n")
    return 0 if same else 1


def _typed(tar: Path, out: Path, ray: bool) -> list[str]:
    return [sys.executable, "-c", _COMMAND, "score", str(tar), "-m", MODEL, "-o", str(out), *(["--ray"] if ray else [])]


def _killed(tar: Path, out: Path, moment: int, ray: bool) -> int:
    with subprocess.Popen(_typed(tar, out, ray)) as process:
        while process.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < moment):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    return out.read_bytes().count(b"\n")


def _read(out: Path) -> Counter[tuple[int, float]]:
    rows = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    return Counter((row["index"], round(row["score"], 4)) for row in rows)


if __name__ == "__main__":
    app()
