"""Convert every PIL mode, array and tensor to 8-bit RGB, or to a float tensor that keeps its gradient.

Rules, the same for all of them: 8 bits stay as they are, 16 bits become round(v / 257), floats must lie in [0, 1] and
become round(255 v), half to even. Nothing is clipped or stretched; alpha is dropped as PIL's `convert("RGB")` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from PIL import Image

from .fetch import unusable

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_CHANNELS = (1, 3, 4)


def pil_to_rgb(image: Image.Image, source: str) -> Image.Image:
    """Turn a loaded PIL image of any mode into mode "RGB".

    Args:
        image: A loaded image. "I;16*" and "I" hold 0..65535, "F" holds 0..1, every other mode 8 bits per channel.
        source: Its name in messages.

    Returns:
        The image itself when it is RGB, else a new one.

    Raises:
        ImageError: Values outside the range of their mode.

    Example:
        >>> pil_to_rgb(Image.new("I;16", (1, 1), 65535), "<example>").getpixel((0, 0))
        (255, 255, 255)
    """
    return _MODES.get(image.mode, _convert)(image, source)


def array_to_rgb(array: NDArray[Any], source: str) -> Image.Image:
    """Turn an array into an RGB image.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), also with a leading 1; uint8, uint16 or float in [0, 1].
        source: Its name in messages.

    Returns:
        An image of its own memory.

    Raises:
        ImageError: Another shape, type or range.

    Example:
        >>> array_to_rgb(np.full((2, 3), 0.5, dtype=np.float32), "<example>").getpixel((0, 0))
        (128, 128, 128)
    """
    array = np.asarray(array)
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in _CHANNELS:
        raise unusable(source, "an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)", _array_hint(array.shape))
    _check_size(source, array.size)
    quantise = _QUANTISE.get(array.dtype.name) or _refuse_dtype
    return _image(quantise(array[..., :3], source))


def tensor_to_rgb(tensor: torch.Tensor, source: str) -> Image.Image | torch.Tensor:
    """Turn a tensor into RGB: an image if it is on the CPU and needs no gradient, else a float tensor on its device.

    Both ways carry the same numbers: rounding the tensor gives the bytes of the image.

    Args:
        tensor: (C, H, W) or (1, C, H, W) with 1, 3 or 4 channels; uint8 or floating (0..1).
        source: Its name in messages.

    Returns:
        An RGB image, or a tensor (3, H, W) with 0..255, not rounded, float32 (float64 stays), with its gradient.

    Raises:
        ImageError: Another shape, type, layout or range.

    Example:
        >>> import torch
        >>> tensor_to_rgb(torch.full((3, 1, 1), 0.5, requires_grad=True), "<example>").detach().flatten().tolist()
        [127.5, 127.5, 127.5]
    """
    import torch

    planes = _planes(tensor, source)
    on_cpu = tensor.device.type == "cpu"
    numbers = planes if planes.dtype == torch.uint8 else _scaled(planes, source)
    if tensor.requires_grad or not on_cpu:
        return (numbers if numbers.is_floating_point() else numbers.float()).expand(3, -1, -1)
    if numbers.is_floating_point():
        numbers = numbers.round_().to(torch.uint8)  # in place: the scaled copy is ours
    return _image(numbers.permute(1, 2, 0).contiguous().numpy())


def check_unit(low: float, high: float, source: str) -> None:
    """Refuse floats outside [0, 1], with a guess at what they are.

    Args:
        low: Smallest value; NaN if any value is NaN.
        high: Largest value.
        source: Name of the picture in messages.

    Raises:
        ImageError: NaN, infinity, or a value outside [0, 1].

    Example:
        >>> check_unit(0.0, 255.0, "<array 4x4x3 float32>")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        qsit_metric.errors.ImageError: ... values in [0, 1], not 0.0..255.0. It looks like 0..255: divide by 255 ...
    """
    if low >= 0 and high <= 1:
        return
    found = next(hint for fits, hint in _GUESSES if fits(low, high))
    raise unusable(source, f"values in [0, 1], not {low!r}..{high!r}", found)


_GUESSES: tuple[tuple[Callable[[float, float], bool], str], ...] = (
    (lambda low, high: not math.isfinite(low + high), "It holds NaN or infinite values: look at what produced it."),
    (lambda low, high: low > -0.1 and high < 1.1, "If that is overshoot, clamp it to 0..1."),
    (lambda low, high: low >= -1 and high <= 1, "It looks like -1..1: pass (x + 1) / 2."),
    (lambda low, high: low >= 0 and high <= 255, "It looks like 0..255: divide by 255 or pass uint8."),
    (lambda low, high: low >= 0 and high <= 65535, "It looks like 0..65535: divide by 65535 or pass uint16."),
    (lambda low, high: True, "If a mean and a standard deviation were applied, undo them."),
)


def _convert(image: Image.Image, source: str) -> Image.Image:
    if "transparency" in image.info:
        # It changes no pixel of the RGB picture, but makes PIL warn, or fail when the palette is full.
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _deep(image: Image.Image, source: str) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise unusable(source, f"16-bit values 0..65535, not {low}..{high}", "Rescale it and pass an array.")
    return _image(_from_16_bits(values, source))


def _from_16_bits(values: NDArray[Any], source: str) -> NDArray[np.uint8]:
    # round(v / 257): 257 is odd, so no value lies halfway.
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_unit(values: NDArray[Any], source: str) -> NDArray[np.uint8]:
    values = values.astype(np.float32) if values.dtype.itemsize < 4 else values
    check_unit(float(values.min()), float(values.max()), source)
    rounded: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return rounded


def _image(values: NDArray[Any]) -> Image.Image:
    """Make an RGB image of (H, W), (H, W, 1) or (H, W, 3) bytes."""
    values = values[..., 0] if values.shape[-1] == 1 and values.ndim == 3 else values
    image = Image.fromarray(values)
    return image if image.mode == "RGB" else image.convert("RGB")


def _planes(tensor: torch.Tensor, source: str) -> torch.Tensor:
    """Check what carries the numbers and cut it to (1 or 3, H, W)."""
    import torch

    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_meta:
        raise unusable(source, "a dense tensor with data", "Call `.to_dense()` or `.dequantize()` first.")
    planes = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if planes.ndim != 3 or planes.shape[0] not in _CHANNELS:
        raise unusable(source, "a tensor (C, H, W) with 1, 3 or 4 channels", _tensor_hint(planes.shape))
    _check_size(source, planes.numel())
    return planes[:3]


def _scaled(planes: torch.Tensor, source: str) -> torch.Tensor:
    import torch

    if planes.dtype not in {torch.float16, torch.bfloat16, torch.float32, torch.float64}:
        hint = "Call `.to(torch.uint8)` if the values are 0..255, `.float()` if they are 0..1."
        raise unusable(source, "uint8, float16, bfloat16, float32 or float64", hint)
    # Half floats cannot hold 255 steps; float64 stays, as finite differences need it.
    numbers = planes if planes.dtype == torch.float64 else planes.float()
    low, high = torch.aminmax(numbers.detach())
    check_unit(low.item(), high.item(), source)
    return numbers * 255


def _array_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return "Channels stand last in arrays (first in tensors): transpose it with `.transpose(1, 2, 0)`."
    return "Pass several pictures as a list." if len(shape) == 4 else ""


def _tensor_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[2] in _CHANNELS:
        return "Channels stand first in tensors (last in arrays): turn it with `.permute(2, 0, 1)`."
    return {2: "Add the channel with `.unsqueeze(0)`.", 4: "Pass several pictures as a list."}.get(len(shape), "")


def _refuse_dtype(values: NDArray[Any], source: str) -> NoReturn:
    hints = {
        "b": "Pass `array.astype(np.uint8) * 255`.",
        "i": "Pass `array.astype(np.uint8)` if the values are 0..255.",
        "f": "Pass `array.astype(np.float64)`.",
    }
    kind = "i" if values.dtype.kind == "u" else values.dtype.kind
    raise unusable(
        source, "uint8, uint16, float16, float32 or float64", hints.get(kind, "Pass numbers of such a type.")
    )


def _check_size(source: str, count: int) -> None:
    if count == 0:
        raise unusable(source, "at least one pixel")


_QUANTISE: dict[str, Callable[[NDArray[Any], str], NDArray[np.uint8]]] = {
    "uint8": lambda values, source: values,
    "uint16": _from_16_bits,
    "float16": _from_unit,
    "float32": _from_unit,
    "float64": _from_unit,
}

_MODES: dict[str, Callable[[Image.Image, str], Image.Image]] = {
    "RGB": lambda image, source: image,
    "La": lambda image, source: image.convert("LA").convert("RGB"),  # PIL has no direct way
    "F": lambda image, source: _image(_from_unit(np.asarray(image), source)),
    **dict.fromkeys(("I", "I;16", "I;16B", "I;16L", "I;16N"), _deep),
}
