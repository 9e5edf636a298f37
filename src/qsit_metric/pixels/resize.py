"""Bicubic resizing, one axis after the other, exactly as Pillow up to version 12 does it for 8-bit pictures.

Pillow resizes with two passes and rounds to 8 bits after each. The order of the passes shows in a few percent of the
pixels, and a score moves by up to 4e-3; Pillow 13 chooses it per picture. Here it is always width, then height.

Two engines that agree to the bit:
- `resize_image`: Pillow itself, one axis at a time, for pictures in memory;
- `resize_tensor`: an autograd function for tensors on any device. Its forward gathers, per output pixel, the few taps
  that Pillow reads, with Pillow's 22-bit fixed-point weights in integers; its backward is the transposed band. Rounding
  and clipping pass gradients straight through, so the Jacobian is that of the linear resize.

Reference: Pillow 11, `src/libImaging/Resample.c` (`precompute_coeffs`, `normalize_coeffs_8bpc`), MIT-CMU licence.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image

_PRECISION = 22  # Resample.c: 32 - 8 - 2 bits after the binary point
_SUPPORT = 2.0  # reach of the cubic kernel, in source pixels at scale 1


def resize_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an RGB picture to (height, width), the width first. Returns the picture itself if it has that size."""
    height, width = size
    for step in ((width, image.height), (width, height)):
        image = image if image.size == step else image.resize(step, Image.Resampling.BICUBIC)
    return image


def resize_tensor(pixels: torch.Tensor, size: tuple[int, int], *, rounding: bool = True) -> torch.Tensor:
    """Resize (C, H, W) pixels in 0..255 to (C, height, width), differentiably.

    Args:
        pixels: uint8, or floating point in 0..255, on any device. With `rounding` floats are first rounded to whole
            numbers; uint8 needs it.
        size: (height, width) of the result.
        rounding: True gives Pillow's 8-bit result; False the linear resize in the dtype of `pixels`.

    Returns:
        Same dtype and device; gradients flow as if nothing were rounded or clipped.
    """
    source = _apply(_Round, pixels) if rounding and pixels.is_floating_point() else pixels
    wide = source if source.shape[2] == size[1] else _apply(_ResizeAxis, source, size[1], 2, rounding)
    return wide if wide.shape[1] == size[0] else _apply(_ResizeAxis, wide, size[0], 1, rounding)


def _apply(function: Any, *arguments: Any) -> torch.Tensor:
    """Torch does not type `Function.apply`."""
    result: torch.Tensor = function.apply(*arguments)
    return result


@lru_cache(maxsize=256)
def taps(length: int, out: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Indices and fixed-point weights of the source pixels that make each output pixel, along one axis.

    Returns:
        Indices, int64 (K, out), clamped to the axis, and weights, int32 (K, out), scaled by 2**22; K is at most
        ceil(4 * scale) + 1. Entries past a pixel's last tap weigh 0.
    """
    scale = length / out
    stretch = max(scale, 1.0)
    reach = _SUPPORT * stretch
    centre = (np.arange(out) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)  # C truncates; negative values are clamped anyway
    last = np.minimum((centre + reach + 0.5).astype(np.int64), length)
    offsets = np.arange(math.ceil(2 * reach) + 1)[:, None]
    weights = _cubic((offsets + first - centre + 0.5) * (1.0 / stretch)) * (first + offsets < last)
    weights = weights / np.add.accumulate(weights, axis=0)[-1]  # summed in Pillow's order
    fixed = np.trunc(weights * (1 << _PRECISION) + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)
    return np.minimum(first + offsets, length - 1), fixed


def _cubic(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Keys' cubic kernel with a = -0.5, in Pillow's order of operations."""
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < _SUPPORT, far, 0.0))


class _Round(torch.autograd.Function):
    """Round to whole grey levels; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.round()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0]


class _ResizeAxis(torch.autograd.Function):
    """One pass of the resize along `axis` of (C, H, W)."""

    @staticmethod
    def forward(ctx: Any, pixels: torch.Tensor, out: int, axis: int, rounding: bool) -> torch.Tensor:
        index, weight = (torch.from_numpy(a).to(pixels.device) for a in taps(pixels.shape[axis], out))
        ctx.axis, ctx.length = axis, pixels.shape[axis]
        ctx.save_for_backward(index, weight)
        shape = [-1 if d == axis else 1 for d in range(3)]
        if not rounding:
            floats = weight.to(pixels.dtype) / (1 << _PRECISION)
            return _band(pixels, index, floats, axis, shape, None)
        whole = _band(pixels.to(torch.int32), index, weight, axis, shape, 1 << (_PRECISION - 1))
        return (whole >> _PRECISION).clamp_(0, 255).to(pixels.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        index, weight = ctx.saved_tensors
        grad, axis = grads[0], ctx.axis
        floats = weight.to(grad.dtype) / (1 << _PRECISION)
        shape = [-1 if d == axis else 1 for d in range(3)]
        size = list(grad.shape)
        size[axis] = ctx.length
        result = grad.new_zeros(size)
        for k in range(len(index)):
            result.index_add_(axis, index[k], grad * floats[k].view(shape))
        return result, None, None, None


def _band(
    source: torch.Tensor, index: torch.Tensor, weight: torch.Tensor, axis: int, shape: list[int], start: int | None
) -> torch.Tensor:
    """Sum of the weighted taps, without a dense weight matrix."""
    total = source.index_select(axis, index[0]) * weight[0].view(shape)
    if start is not None:
        total += start
    for k in range(1, len(index)):
        total.addcmul_(source.index_select(axis, index[k]), weight[k].view(shape))
    return total
