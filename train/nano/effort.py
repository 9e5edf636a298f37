"""What `python -m train nano` and `tiny` make, how much they do for it, and on which device. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from ..processes import quick_in_bfloat16
from ..sweep.plan import Formula
from .data.dataset import Amounts
from .scratch import Scratch
from .tower import Lessons

NANO = Scratch(
    tile=128,
    patch=16,
    rows=8,
    cols=8,
    max_tiles=1,
    vision_width=256,
    vision_layers=8,
    vision_heads=4,
    vision_intermediate=768,
    text_width=192,
    text_layers=4,
    text_heads=4,
    text_kv_heads=2,
    text_intermediate=512,
    positions=2048,
    vocabulary=2048,
)
"""Tiles of 128 pixels, in grids of up to 8 x 8: photographs of 12 megapixels are seen at 1024 x 768."""


@dataclass(frozen=True)
class Product:
    """A model that is made from nothing.

    Attributes:
        name: Of the exported folder.
        short: Begins the names of its recipes.
        recipe: The committed recipe that its runs share.
        spec: The sizes of the small model, which the balance is searched with.
        primary: Those of the model itself; None: the same.
        stage: What the stage of the model itself is called.
        degree: Degree of the sweeps' polynomials; lower where there are few points.
        formula: What counts as performance in step 1.
        dtype: Type of the exported weights.
    """

    name: str
    short: str
    recipe: str
    spec: Scratch
    primary: Scratch | None = None
    stage: str = "embedded model"
    degree: int = 3
    formula: Formula = "accuracy"
    dtype: str = "float16"


Q_SIT_NANO = Product("q-sit-nano", "nano", "q-sit-nano", NANO)
_PRIMARY = Scratch(text_width=128, text_layers=4, text_intermediate=320)
# Accuracy alone is within the noise of guessing at this size, and may be the same in every run.
Q_SIT_TINY = Product("q-sit-tiny", "tiny", "tiny", Scratch(), _PRIMARY, "primary model", 2, "mean", "float32")
"""Algorithm 1 with models of about a million parameters, which see pictures of 96 pixels: it takes minutes."""

TWINS = {"gaussian_blur": (), "white_noise": ("gaussian_noise", "shot_noise"), "jpeg": ("jpeg_compression",)}
LEFT_OUT = tuple(TWINS)
"""Types that one run each is told nothing of; `TWINS` has the corruptions that are the same under another name."""


@dataclass(frozen=True)
class Device:
    """The device that everything is trained on, and what follows from it.

    Attributes:
        name: A torch device.
        precision: See `train.recipe.Optim`.
        attention: How attention is computed.
        batch: Rows in one step.
        lr: Learning rate of the language model.
        vision_lr: Of the tower, where it learns.
        workers: Processes that prepare rows for the embedded model.
        helpers: The same for each run of those that go side by side.
        abreast: Runs side by side at most; 0 is one for each core.
        states: Keep what the frozen tower says of the pictures on disk: on a processor that is several times quicker
            than to compute it anew.
    """

    name: str = "cpu"
    precision: Literal["bf16", "no"] = "bf16"
    attention: Literal["eager", "sdpa"] = "sdpa"
    batch: int = 16
    lr: float = 1e-3
    vision_lr: float = 1e-4
    workers: int = 0
    helpers: int = 0
    abreast: int = 0
    states: bool = True


CPU = Device()
CUDA = Device("cuda", "bf16", "sdpa", 128, 1.5e-3, 3e-4, 10, 1, 12, False)


def device_here() -> Device:
    """The device of this machine."""
    if torch.cuda.is_available():
        return CUDA
    return CPU if quick_in_bfloat16("cpu") else replace(CPU, precision="no")


@dataclass(frozen=True)
class Effort:
    """How much one run does.

    Attributes:
        amounts: Pictures and rows.
        lessons: The tower's first stage.
        base_epochs: Epochs over the general rows, after which the model can read and answer.
        pool: Rows of D1, D2 and D3 that one run of a sweep may have at most.
        fractions: Of the smaller side in step 1; n of them give 2 n - 1 points.
        points: Points of step 2.
        repeats: Runs at each point.
        proxy_limit: Validation rows, and questions, of one run of a sweep; None is all.
        limit: The same of the other runs.
        epoch_rows: Rows of one epoch of the embedded model.
        small_rows: Rows of one epoch of the model that gives lambda.
        small_epochs: Epochs of the first at most.
        epochs: Epochs of the second with a frozen tower.
        polish_epochs: Its last epochs, in which the tower learns, too; 0: it does not.
        polish_rows: Rows of each of those.
        trial_rows: Rows of a run of the ablations, and of those that leave a type out; 0: there are none.
        onward: Rows of D1, D2 and D3 in each of the `epochs` that teach the model of another run on; None begins with
            the base.
    """

    amounts: Amounts = field(default_factory=lambda: Amounts(13000, 6000, 3000, 8000, 400, 600))
    lessons: Lessons = field(default_factory=lambda: Lessons(12000, 64, 1.5e-3, check_every=500))
    base_epochs: int = 3
    pool: tuple[int, int, int] = (300, 1800, 1800)
    fractions: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    points: int = 7
    repeats: int = 2
    proxy_limit: int | None = 160
    limit: int | None = None
    epoch_rows: int = 8000
    small_rows: int = 8000
    small_epochs: int = 1
    epochs: int = 6
    polish_epochs: int = 1
    polish_rows: int = 4500
    trial_rows: int = 2500
    onward: tuple[int, int, int] | None = None


FULL = Effort()
"""About four hours on two cores."""
BEGUN = Effort(
    Amounts(10000, 5000, 300, 6000, 200, 240),
    pool=(240, 700, 200),
    proxy_limit=120,
    limit=200,
    epoch_rows=7000,
    small_rows=1500,
    epochs=6,
    polish_epochs=0,
    trial_rows=900,
)
"""Two hours on two cores, for a tower and a base that another run has made."""
ONWARD = Effort(
    Amounts(4000, 800, 100, 3000, 120, 120),
    limit=120,
    epochs=2,
    onward=(2000, 2500, 100),
)
"""Half an hour on two cores, for a model that another run has made."""
LARGE = Effort(
    Amounts(19000, 10000, 5000, 12000, 300, 300),
    Lessons(8000, 512, 1.2e-3, check_every=1000, decay=0.02),
    base_epochs=4,
    pool=(1800, 4800, 2000),
    proxy_limit=240,
    limit=200,
    epoch_rows=20000,
    small_rows=20000,
    epochs=2,
    polish_epochs=8,
    polish_rows=24000,
    trial_rows=9000,
)
"""For a GPU. On an H100 with 16 cores it took 7 minutes to the end of the base; the rest has not been run there."""
FAST = Effort(
    Amounts(80, 80, 60, 60, 20, 24),
    Lessons(10, 16, 1.5e-3, check_every=5),
    base_epochs=1,
    pool=(48, 48, 48),
    fractions=(0.7, 1.0),
    points=3,
    repeats=1,
    proxy_limit=12,
    epoch_rows=96,
    small_rows=96,
    small_epochs=1,
    epochs=2,
    polish_epochs=1,
    polish_rows=64,
    trial_rows=192,
)
FAST_ONWARD = replace(FAST, onward=(24, 32, 16))
TINY = Effort(
    Amounts(500, 260, 1000, 240, 150, 160, small=True),
    Lessons(1000, 32, 2e-3, check_every=500),
    base_epochs=1,
    pool=(250, 300, 250),
    fractions=(0.25, 0.5, 0.75, 1.0),
    proxy_limit=60,
    epoch_rows=1000,
    small_rows=1000,
    small_epochs=3,
    epochs=3,
    polish_epochs=0,
    trial_rows=0,
)
"""Minutes on two cores."""
TINY_FAST = replace(FAST, amounts=replace(FAST.amounts, small=True), polish_epochs=0, trial_rows=0)
TINY_DEVICE = replace(CPU, precision="no")
"""float32: bfloat16 gave so small a tower nothing on a processor."""


def plan_run(fast: bool, begun: bool, onward: bool) -> tuple[Effort, Device]:
    """Choose the effort and the device of a run on this machine.

    Args:
        fast: Check the path only, with few rows.
        begun: Another run's tower and base are there.
        onward: Another run's model is taught on.
    """
    device = device_here()
    if fast:
        return FAST_ONWARD if onward else FAST, replace(device, batch=32, workers=0)
    large = LARGE if device.name != "cpu" else BEGUN if begun else FULL
    return ONWARD if onward else large, device
