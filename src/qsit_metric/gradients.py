"""Logits of the level words for batches of tensors, differentiable in the pixels, and the gradient of a score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from .batching import Budget, batches, compute, gather, guarded, prepare
from .errors import BackendError, InputError
from .levels import expect, finite
from .pixels import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .backends.base import Backend, Prepared
    from .prompts import Prompt


def level_logits(
    x: torch.Tensor, backend: Backend, prompt: Prompt, budget: Budget, *, check: bool = True
) -> torch.Tensor:
    """Compute the logits of the level words for each picture; differentiable in `x` if `x` requires grad.

    Args:
        x: (N, 3, H, W) RGB in [0, 1], floating point, or uint8.
        backend: What reads them.
        prompt: The scoring prompt, with K words from worst to best.
        budget: Tiles and tokens of one batch.
        check: Refuse values outside [0, 1] and logits that are not finite. Each look at values makes the host wait for
            the device; without it `x` must be floating point, and bad values give bad scores.

    Returns:
        (N, K) float32 (float64 if that is the model's type) on the device of `x`.

    Raises:
        InputError: Wrong rank or channels, values outside [0, 1], NaN or infinite; or a prompt without level words.
        BackendError: A gradient was asked of a backend that has none, or the model failed.
    """
    if not prompt.words:
        hint = "Use `metric.score`: the number is read from what the model writes, which has no logits and no gradient."
        raise InputError.about("recipe", "<a recipe with a written score>", "one that reads level words", hint)
    if not isinstance(x, torch.Tensor) or x.ndim != 4 or x.shape[1] != 3:
        shown = f"<tensor of shape {tuple(x.shape)}>" if isinstance(x, torch.Tensor) else x
        raise InputError.about("x", shown, "a tensor (N, 3|1, H, W)", "Files and lists go to `metric.score`.")
    grad, steady = x.requires_grad and torch.is_grad_enabled(), _Steady()
    if grad and not backend.differentiable:
        raise BackendError.about("x", "<a tensor that requires grad>", f"no gradient with {backend.name}")

    half = grad and backend.dtype == torch.float16
    pixels = steady.enter(x) if half else x

    def run(prepared: list[Prepared]) -> list[torch.Tensor]:
        rows = backend.logits([(image, prompt) for image in backend.encode(prepared)])
        return [finite(row) for row in rows] if check else rows

    stream = (prepare(backend, image if check else _unchecked(image), grad=grad) for image in pixels)
    computed = (row for batch in batches(stream, budget) for row in compute(batch, run, backend.device, grad))
    found = gather(computed, "raise", single=False)
    if not found:
        return x.new_zeros((0, len(prompt.words)), dtype=torch.float32)
    rows = torch.stack(found).to(x.device)
    return steady.leave(rows) if half else rows


def score_gradient(picture: Picture, backend: Backend, prompt: Prompt, budget: Budget) -> NDArray[np.float64]:
    """Compute the size of the gradient of a picture's score, at each pixel.

    Args:
        picture: The picture.
        backend: What reads it.
        prompt: The scoring prompt.
        budget: Tiles and tokens of one batch.

    Returns:
        (H, W): |d score / d pixel| in score per grey level, summed over channels.

    Raises:
        BackendError: The backend has no gradient, or it is not finite, or the model failed.
    """
    if not backend.differentiable:
        hint = "Use method='windows': it works with all."
        raise BackendError.about("method", "saliency", f"a backend with a gradient, not {backend.name}", hint)
    # Whatever context the caller is in: a gradient is needed here, and autocast would compute it in half precision.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(backend.device.type, enabled=False):
        x = _unit(picture.pixels, backend.device).requires_grad_()
        value = expect(level_logits(x[None], backend, prompt, budget))[1]
        with guarded():
            (gradient,) = torch.autograd.grad(value.sum(), x)
    if not bool(gradient.isfinite().all()):
        hint = "Half precision may have overflowed: try dtype='float32' or 'bfloat16'."
        raise BackendError.about("model", "<a gradient that is not finite>", "numbers", hint)
    strength: NDArray[np.float64] = gradient.abs().sum(dim=0).cpu().double().numpy() / 255
    return strength


def _unit(pixels: Image.Image | torch.Tensor, device: torch.device) -> torch.Tensor:
    """(3, H, W) in 0..1 on the device, with no history."""
    if isinstance(pixels, Image.Image):
        return torch.from_numpy(np.array(pixels)).to(device).permute(2, 0, 1).float() / 255
    return pixels.detach().to(device).clone() / 255


def _unchecked(image: torch.Tensor) -> Picture:
    """A picture as `load` makes it, without a look at the values."""
    numbers = image if image.dtype == torch.float64 else image.float()
    return Picture(numbers * 255, "<tensor>")


class _Steady:
    """Keeper of the gradients' size inside a float16 model, whatever the loss behind it is weighed with.

    A loss weight of 0.01 over a batch of 8 alone would let most of them vanish below float16's smallest number. They
    are made larger where they enter the model and as much smaller where they leave it, by a power of two, which is
    exact; the device finds it, the host does not wait.
    """

    size = 2.0**8  # of the largest gradient at the logits: far from float16's 65504, and far above its 6e-8

    def __init__(self) -> None:
        self.factor: torch.Tensor | None = None

    def leave(self, logits: torch.Tensor) -> torch.Tensor:
        """Wrap what leaves the model, where its gradient enters."""
        result: torch.Tensor = _Enlarge.apply(logits, self)  # type: ignore[no-untyped-call]
        return result

    def enter(self, pixels: torch.Tensor) -> torch.Tensor:
        """Wrap what enters the model, where its gradient leaves."""
        wide = pixels if pixels.dtype == torch.float64 else pixels.float()
        result: torch.Tensor = _Reduce.apply(wide, self)  # type: ignore[no-untyped-call]
        return result


class _Enlarge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, steady: _Steady) -> torch.Tensor:
        ctx.steady = steady
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        largest = grads[0].detach().abs().amax()
        factor = torch.exp2(torch.floor(torch.log2(_Steady.size / largest)))
        ctx.steady.factor = torch.where(factor.isfinite() & (factor > 0), factor, 1.0)
        return grads[0] * ctx.steady.factor, None


class _Reduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: torch.Tensor, steady: _Steady) -> torch.Tensor:
        ctx.steady = steady
        return pixels.view_as(pixels)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0] / ctx.steady.factor, None
