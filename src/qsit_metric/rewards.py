"""Rewards for generators: pictures in, one float each out, in the forms in which training code asks for them.

    from qsit_metric.rewards import Reward, flow_grpo

    reward = Reward("q-sit-mini", scale="unit")
    reward(images)                                    # list of floats in 0..1, higher is better

The signatures follow the hosts' own code: flow_grpo's `rewards.py` (github.com/yifan123/flow_grpo at 54809b5),
ddpo-pytorch's `rewards.py` (github.com/kvablack/ddpo-pytorch), and `GRPOTrainer._calculate_rewards` of TRL 1.16.
Flow-Factory wants a class of its own: `qsit_metric.integrations.flow_factory`. DanceGRPO has no place for a reward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from .errors import InputError
from .pixels import many
from .results import Score

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from .metric import QSiT

__all__ = ["Reward", "Scale", "ddpo", "flow_grpo", "trl"]

Scale = Literal["mos", "unit", "fifth"]
FlowReward = Callable[[Any, Any, Any], "tuple[list[float], dict[str, Any]]"]
DdpoReward = Callable[[Any, Any, Any], "tuple[NDArray[np.float32], dict[str, Any]]"]


class Reward:
    """The quality of pictures as a list of floats; the model is loaded at the first call.

    Args:
        model: A catalog name, a Hub repository, a checkpoint folder, or a `QSiT` that is used as it is.
        scale: "mos" is the score itself, 1..5; "unit" is (score - 1) / 4, 0..1; "fifth" is score / 5, as clients of
            DeQA-Score expect it, 0.2..1. Higher is better on each.
        **options: Those of `QSiT`: `device`, `dtype`, `recipe` ...

    Raises:
        InputError: Another scale, or options beside a `QSiT`.
        QSiTError: The model, as for `QSiT`, at the first call.

    Example:
        >>> from PIL import Image
        >>> reward = Reward("q-sit-nano", scale="mos")
        >>> all(1 <= value <= 5 for value in reward([Image.new("RGB", (64, 48)), Image.new("RGB", (32, 32), "white")]))
        True
    """

    def __init__(self, model: str | Path | QSiT = "q-sit-mini", *, scale: Scale = "unit", **options: Any) -> None:
        if scale not in get_args(Scale):
            raise InputError.about("scale", scale, f"one of {', '.join(get_args(Scale))}")
        self.scale = scale
        self._name: str | Path = model if isinstance(model, (str, Path)) else ""
        self._metric: QSiT | None = None if isinstance(model, (str, Path)) else model
        if self._metric is not None and options:
            raise InputError.about("options", options, "none with a QSiT, which has its own")
        self._options = options

    @property
    def metric(self) -> QSiT:
        """The metric behind it."""
        if self._metric is None:
            from .metric import QSiT

            self._metric = QSiT(self._name, **self._options)
        return self._metric

    def __call__(self, images: Any) -> list[float]:
        """Score pictures.

        Args:
            images: A list of whatever `QSiT.score` takes; or a batch as generators give it: a tensor (N, 3, H, W), an
                array (N, H, W, 3), each uint8 or floating point in 0..1. Floats a little outside are cut off, as
                everyone who saves such a picture does.

        Returns:
            A float for each picture, in order; higher is better.

        Raises:
            InputError: A batch of another shape, or values that are NaN or infinite.
            ImageError: A picture that cannot be read.
        """
        return [scaled(score, self.scale) for score in self.metric.score(pictures(images))]

    def __getstate__(self) -> dict[str, Any]:
        """A name travels to other processes as a name; only a metric that was given takes its weights along."""
        return {**self.__dict__, "_metric": self._metric if not self._name else None}


def scaled(score: Score, scale: Scale) -> float:
    """A score on the scale of a reward; see `Reward`.

    Example:
        >>> scaled(Score(3.0, {}), "unit"), scaled(Score(3.0, {}), "fifth")
        (0.5, 0.6)
    """
    return {"mos": float(score), "unit": score.unit, "fifth": float(score) / 5}[scale]


def pictures(images: Any) -> list[Any]:
    """List the pictures of a batch; floats are rounded to the 8 bits that a saved picture has.

    Raises:
        InputError: A batch of another shape, or values that are NaN or infinite.
    """
    import torch

    if hasattr(images, "__array__") and not isinstance(images, torch.Tensor) and getattr(images, "ndim", 0) == 4:
        images = torch.as_tensor(images).movedim(-1, 1)
    if not isinstance(images, torch.Tensor):
        return [_saved(one) if isinstance(one, torch.Tensor) else one for one in many(images)]
    if images.ndim != 4 or images.shape[1] != 3:
        expected = "a list, a tensor (N, 3, H, W) or an array (N, H, W, 3)"
        raise InputError.about("images", f"<shape {tuple(images.shape)}>", expected)
    return list(_saved(images))


def _saved(x: torch.Tensor) -> torch.Tensor:
    """8 bits, as of a picture that was written to a file."""
    import torch

    if not x.is_floating_point():
        return x
    if not bool(torch.isfinite(x).all()):
        raise InputError.about("images", "<NaN or infinite values>", "finite values", "The generator has diverged.")
    return (x.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)


def flow_grpo(
    model: str | Path | QSiT = "q-sit-mini", *, scale: Scale = "unit", **options: Any
) -> Callable[[Any], FlowReward]:
    """A reward for flow_grpo: a factory that takes the device, for the table `score_functions` of its `rewards.py`.

    Args:
        model: See `Reward`.
        scale: See `Reward`; the other rewards there lie on 0..1.
        **options: See `Reward`, without `device`.

    Returns:
        `factory(device)` -> `fn(images, prompts, metadata)` -> (list of floats, {}).

    Example:
        >>> fn = flow_grpo("q-sit-nano")("cpu")
        >>> import torch
        >>> scores, details = fn(torch.rand(2, 3, 48, 64), ["a cat", "a dog"], [{}, {}])
        >>> len(scores), details
        (2, {})
    """

    def factory(device: Any) -> FlowReward:  # called with a device only if it has a variable of this name
        place = {} if not isinstance(model, (str, Path)) else {"device": device}
        reward = Reward(model, scale=scale, **options, **place)

        def fn(images: Any, prompts: Any, metadata: Any) -> tuple[list[float], dict[str, Any]]:
            return reward(images), {}

        return fn

    return factory


def ddpo(model: str | Path | QSiT = "q-sit-mini", *, scale: Scale = "unit", **options: Any) -> Callable[[], DdpoReward]:
    """A reward in the style of ddpo-pytorch: a factory without arguments.

    Args:
        model: See `Reward`.
        scale: See `Reward`.
        **options: See `Reward`.

    Returns:
        `factory()` -> `fn(images, prompts, metadata)` -> (float32 array (N,), {}).

    Example:
        >>> fn = ddpo("q-sit-nano")()
        >>> import numpy as np
        >>> fn(np.zeros((2, 48, 64, 3), np.uint8), ["a cat", "a dog"], [{}, {}])[0].shape
        (2,)
    """

    def factory() -> DdpoReward:
        reward = Reward(model, scale=scale, **options)

        def fn(images: Any, prompts: Any, metadata: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
            import numpy as np

            return np.array(reward(images), dtype=np.float32), {}

        return fn

    return factory


def trl(
    model: str | Path | QSiT = "q-sit-mini", *, scale: Scale = "unit", column: str = "image", **options: Any
) -> Callable[..., list[float | None]]:
    """A reward function for TRL's trainers, which reads the pictures from a column of the data set.

    Args:
        model: See `Reward`.
        scale: See `Reward`.
        column: Name of the column; a row without a picture gets None, which TRL leaves out of the mean.
        **options: See `Reward`.

    Returns:
        `qsit(prompts=, completions=, **columns)` -> a float or None for each row.

    Raises:
        InputError: At the call: there is no such column.

    Example:
        >>> from PIL import Image
        >>> qsit = trl("q-sit-nano")
        >>> rewards = qsit(prompts=["", ""], completions=["", ""], image=[Image.new("RGB", (64, 48)), None])
        >>> rewards[0] is not None, rewards[1]
        (True, None)
    """
    reward = Reward(model, scale=scale, **options)

    def qsit(*, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if column not in columns:
            expected = f"a column of the data set: {', '.join(columns) or 'there are none'}"
            hint = "Trainers drop columns unless remove_unused_columns=False."
            raise InputError.about("column", column, expected, hint)
        found = columns[column]
        scored = iter(reward([one for one in found if one is not None]))
        return [None if one is None else next(scored) for one in found]

    return qsit
