"""Train a small restoration network with L1 and with L1 + QSiTLoss, and compare: `python examples/restore.py`.

Photographs (those of scikit-image and scikit-learn) get strong noise. A small network learns to take it off with L1,
then goes on three times from there: with L1 alone, with a little QSiTLoss, and with far too much. It is tested on
photographs that it never saw, by PSNR and SSIM of scikit-image, which know the original and not the metric. Then the
pixels of one picture are pushed towards a better score directly, with nothing to hold them.

Needs the `train` extra. It takes some minutes on two cores, and writes a figure, a table and its CSV.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # `train` is a program of the checkout, which nobody installs

from qsit_metric import QSiT, QSiTLoss  # noqa: E402
from train.nano.data import photographs  # noqa: E402
from train.nano.data.kadid import distort  # noqa: E402

DAMAGE = (("white_noise", 5), ("white_noise", 4))
WEIGHTS = {"L1": 0.0, "L1 + QSiT": 0.02, "L1 + far too much QSiT": 1.0}
SIZE = 384, 256  # width and height of the photographs
PATCH, BATCH = 128, 2
SHOWN = "rocket"  # the photograph in the figure; public domain


@dataclass(frozen=True)
class Effort:
    """How much is done: steps of the common start, of each way on, and of the pixels; photographs to learn from."""

    start: int = 300
    on: int = 100
    pixels: int = 60
    photographs: int | None = None


@dataclass(frozen=True)
class Pair:
    """A photograph and what was left of it, (3, H, W) in [0, 1]."""

    name: str
    damage: str
    clean: torch.Tensor
    degraded: torch.Tensor


@dataclass(frozen=True)
class Row:
    """Means over the test pictures: what people call fidelity (PSNR in dB, SSIM) and the score that was trained for."""

    who: str
    psnr: float
    ssim: float
    score: float


class Restorer(nn.Module):
    """Five convolutions that say what to add to a picture; at first nothing."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [3, width, width, width, width, 3]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes))
        nn.init.zeros_(self.convolutions[-1].weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to the same."""
        found = x
        for convolution in self.convolutions[:-1]:
            found = functional.relu(convolution(found))
        return x + self.convolutions[-1](found)


def pairs(names: list[str], seed: int) -> list[Pair]:
    """Every photograph under every kind of damage."""
    made: list[Pair] = []
    for name in names:
        clean = photographs.crop(name, SIZE, np.random.default_rng([seed, len(made)]))
        for kind, level in DAMAGE:
            degraded = distort(clean, kind, level, seed=seed + len(made))
            made.append(Pair(name, kind, tensor(clean), tensor(degraded)))
    return made


def tensor(image: Image.Image) -> torch.Tensor:
    """A picture as (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def pixels(x: torch.Tensor) -> np.ndarray[Any, Any]:
    """(3, H, W) as an 8-bit picture (H, W, 3), as a file would hold it."""
    return (x.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def batches(found: list[Pair], steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random patches: degraded and clean, (N, 3, PATCH, PATCH)."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        clean, degraded = [], []
        for _ in range(BATCH):
            pair = found[rng.integers(len(found))]
            top, left = rng.integers(SIZE[1] - PATCH + 1), rng.integers(SIZE[0] - PATCH + 1)
            place = slice(None), slice(top, top + PATCH), slice(left, left + PATCH)
            clean.append(pair.clean[place])
            degraded.append(pair.degraded[place])
        yield torch.stack(degraded), torch.stack(clean)


def train(network: Restorer, found: list[Pair], steps: int, seed: int, criterion: QSiTLoss | None) -> Restorer:
    """L1, and what the criterion adds; equal seeds see equal patches."""
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for degraded, clean in batches(found, steps, seed):
        output = network(degraded)
        loss = functional.l1_loss(output, clean)
        if criterion is not None:
            loss = loss + criterion(output)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def judge(who: str, metric: QSiT, tests: list[Pair], repair: Callable[[torch.Tensor], torch.Tensor]) -> Row:
    """Compare repaired test pictures with the originals, and score them."""
    with torch.no_grad():
        repaired = [pixels(repair(pair.degraded[None])[0]) for pair in tests]
    originals = [pixels(pair.clean) for pair in tests]
    psnr = [peak_signal_noise_ratio(a, b) for a, b in zip(originals, repaired, strict=True)]
    ssim = [structural_similarity(a, b, channel_axis=2) for a, b in zip(originals, repaired, strict=True)]
    return Row(who, float(np.mean(psnr)), float(np.mean(ssim)), float(np.mean(metric.score(repaired))))


def push(metric: QSiT, pair: Pair, steps: int) -> tuple[torch.Tensor, list[tuple[float, float]]]:
    """Move the pixels of a degraded picture to a better score; (score, PSNR) after every step, the start first."""
    x = pair.degraded[None].clone().requires_grad_()
    optimiser, criterion = torch.optim.Adam([x], 2 / 255), QSiTLoss(metric)
    clean, way = pixels(pair.clean), []
    for step in range(steps + 1):
        loss = criterion(x)
        way.append((5 - 4 * loss.item(), float(peak_signal_noise_ratio(clean, pixels(x[0])))))
        if step < steps:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return x.detach()[0], way


def draw(path: Path, shown: list[tuple[str, np.ndarray[Any, Any]]], way: list[tuple[float, float]]) -> None:
    """Six pictures, and the way of the pushed pixels: their score and their PSNR."""
    from benchmarks.canvas import COLOURS, new_figure, save_png

    figure = new_figure(11, 5.8)
    cells = list(figure.subplots(2, 4).flat)
    for axes, (title, picture) in zip(cells[:6], shown, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    named = (("score", COLOURS["blue"]), ("PSNR, dB", COLOURS["vermilion"]))
    for axes, (name, colour), values in zip(cells[6:], named, zip(*way, strict=True), strict=True):
        axes.plot(values, color=colour)
        axes.set_title(f"pixels pushed: {name} at each step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_box_aspect(1)
    save_png(figure, path)


def titled(name: str, picture: torch.Tensor, pair: Pair, metric: QSiT) -> tuple[str, np.ndarray[Any, Any]]:
    """A picture for the figure with its own numbers; the middle of it, where damage can be seen."""
    found, clean = pixels(picture), pixels(pair.clean)
    numbers = f"score {metric.score(found):.2f}"
    if name != "original":
        ssim = structural_similarity(clean, found, channel_axis=2)
        numbers += f", PSNR {peak_signal_noise_ratio(clean, found):.1f} dB, SSIM {ssim:.2f}"
    return f"{name}\n{numbers}", found[32:224, 96:288]


def tell(rows: list[Row], way: list[tuple[float, float]]) -> str:
    """What came out, in a sentence; computed, not hoped for."""
    (score, psnr), (score_after, psnr_after) = way[0], way[-1]
    pushed = f"Pixels pushed {len(way) - 1} steps: score {score:.2f} -> {score_after:.2f}, "
    pushed += f"PSNR {psnr:.1f} -> {psnr_after:.1f} dB."
    if score_after > score and psnr_after < psnr:
        pushed += " The score rose while the picture moved away from the original: a no-reference loss knows no truth."
    plain, _, most = rows[-3:]
    return (
        pushed
        + f" Far too much QSiTLoss against L1 alone: score {most.score - plain.score:+.2f}, "
        + (f"PSNR {most.psnr - plain.psnr:+.2f} dB, SSIM {most.ssim - plain.ssim:+.3f}.")
    )


def as_csv(rows: list[Row], way: list[tuple[float, float]]) -> str:
    """The table, then the way of the pixels as rows of its own."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _short(value) for name, value in asdict(row).items()} for row in rows)
    writer.writerows(
        {"who": f"pixels, step {step}", "psnr": _short(psnr), "ssim": "", "score": _short(score)}
        for step, (score, psnr) in enumerate(way)
    )
    return file.getvalue()


def _short(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value


def main() -> None:
    """Train, test, push, draw, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="q-sit-nano")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "images" / "restore.png")
    parser.add_argument("--table", type=Path, default=ROOT / "benchmarks" / "results" / "restore.csv")
    given = parser.parse_args()
    start, effort = time.perf_counter(), Effort(3, 2, 3, 2) if given.fast else Effort()
    metric, console = QSiT(given.model, device="cpu"), Console()

    learned = pairs(photographs.names("train", SIZE)[: effort.photographs], given.seed)
    tests = pairs([SHOWN] if given.fast else photographs.names("held_out", SIZE), given.seed)
    torch.manual_seed(given.seed)
    common = train(Restorer(), learned, effort.start, given.seed, None)
    networks = {}
    for who, weight in WEIGHTS.items():
        network = Restorer()
        network.load_state_dict(common.state_dict())
        criterion = QSiTLoss(metric, weight) if weight else None
        networks[who] = train(network, learned, effort.on, given.seed + 1, criterion)
        console.print(f"{who}: trained after {time.perf_counter() - start:.0f} s")
    rows = [judge("original", metric, [Pair(p.name, p.damage, p.clean, p.clean) for p in tests], lambda x: x)]
    rows += [judge("degraded", metric, tests, lambda x: x)]
    rows += [judge(who, metric, tests, network) for who, network in networks.items()]

    pair = next(pair for pair in tests if pair.name == SHOWN)
    pushed, way = push(metric, pair, effort.pixels)
    pictures = {"original": pair.clean, "degraded": pair.degraded}
    with torch.no_grad():
        pictures |= {who: network(pair.degraded[None])[0] for who, network in networks.items()}
    pictures["pixels pushed, nothing to hold them"] = pushed
    draw(given.figure, [titled(name, picture, pair, metric) for name, picture in pictures.items()], way)
    given.table.parent.mkdir(parents=True, exist_ok=True)
    given.table.write_text(as_csv(rows, way), encoding="utf-8")

    table = Table(title=f"{len(tests)} test pictures, {given.model}, seed {given.seed}")
    for column in ("", "PSNR, dB", "SSIM", "score, 1 to 5"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        table.add_row(row.who, f"{row.psnr:.2f}", f"{row.ssim:.3f}", f"{row.score:.2f}")
    console.print(table)
    console.print(tell(rows, way))
    console.print(f"{given.figure} and {given.table} written; {time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
