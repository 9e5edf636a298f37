"""Convert every PIL mode, array and tensor to 8-bit RGB, or to a float tensor that keeps its gradient.

Rules, the same for all of them: 8 bits stay as they are; 16 bits become round(v / 257), or round(255 v / (2**bits - 1))
where a `Reading` says how many are in use; floats must lie in [0, 1] and become round(255 v), half to even. Nothing is
clipped or stretched; alpha is dropped as PIL's `convert("RGB")` does, unless there is a background to lay it on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from PIL import Image

from .colour import alpha_of, blend, on_background, say_transparent, to_srgb
from .fetch import unusable

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from .deep import Deep
    from .reading import Reading

_CHANNELS = (1, 3, 4)
_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_STEPS = (8, 10, 12, 14)


def pil_to_rgb(image: Image.Image, source: str, reading: Reading, notes: list[str]) -> Image.Image:
    """Turn a loaded PIL image of any mode into mode "RGB".

    Args:
        image: A loaded image. "I;16*" and "I" hold 0..65535, "F" holds 0..1, every other mode 8 bits per channel.
        source: Its name in messages.
        reading: How it is read.
        notes: Takes what the reader of a score should know.

    Returns:
        The image itself when it is RGB, else a new one.

    Raises:
        ImageError: Values outside the range of their mode.

    Example:
        >>> from qsit_metric.pixels import Reading
        >>> pil_to_rgb(Image.new("I;16", (1, 1), 65535), "<example>", Reading(), []).getpixel((0, 0))
        (255, 255, 255)
    """
    if image.mode in _DEEP or image.mode == "F":
        rgb = _image(_quantised(np.asarray(image), source, reading, notes))
    else:
        rgb = _converted(image)
    return on_background(to_srgb(image, rgb, reading, notes), alpha_of(image), reading, notes)


def deep_to_rgb(deep: Deep, source: str, reading: Reading, notes: list[str]) -> Image.Image:
    """Turn the numbers of a file that has more than 8 bits per channel into RGB, as its 8-bit twin would be.

    Args:
        deep: Integers or floats in [0, 1] of the mode "L", "LA", "RGB", "RGBA", "RGBX" or "CMYK".
        source: Its name in messages.
        reading: How it is read.
        notes: Takes what the reader of a score should know.

    Returns:
        A new image.

    Raises:
        ImageError: Values outside the range of their type.
    """
    values, mode = deep.values, deep.mode
    colours = values[..., :-1] if mode in ("LA", "RGBA") else values[..., :3] if mode == "RGBX" else values
    parts = [_quantised(colours, source, reading, notes)]
    if mode in ("LA", "RGBA"):
        alpha = values[..., -1:]
        full = _white(alpha, reading) if alpha.max() <= _white(alpha, reading) else _white(alpha, None)
        parts.append(np.rint(alpha * 255).astype(np.uint8) if full == 1 else _bytes(alpha, full))
    stored = np.concatenate(parts, axis=-1)
    image = Image.fromarray(stored[..., 0] if stored.shape[-1] == 1 else stored, mode if mode != "RGBX" else "RGB")
    image.info = dict(deep.info)
    return pil_to_rgb(image, source, reading, notes)


def array_to_rgb(array: NDArray[Any], source: str, reading: Reading, notes: list[str]) -> Image.Image:
    """Turn an array into an RGB image.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), also with a leading 1; uint8, uint16 or float in [0, 1].
        source: Its name in messages.
        reading: How it is read.
        notes: Takes what the reader of a score should know.

    Returns:
        An image of its own memory.

    Raises:
        ImageError: Another shape, type or range.

    Example:
        >>> from qsit_metric.pixels import Reading
        >>> array_to_rgb(np.full((2, 3), 0.5, dtype=np.float32), "<example>", Reading(), []).getpixel((0, 0))
        (128, 128, 128)
    """
    array = np.asarray(array)
    array = array[0] if array.ndim == 4 and len(array) == 1 else array
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in _CHANNELS:
        raise unusable(source, "an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)", _array_hint(array.shape))
    _check_size(source, array.size)
    if array.dtype.name not in _NUMBERS:
        _refuse_dtype(array, source)
    return _flat(array, source, reading, notes)


def tensor_to_rgb(tensor: torch.Tensor, source: str, reading: Reading, notes: list[str]) -> Image.Image | torch.Tensor:
    """Turn a tensor into RGB: an image if it is on the CPU and needs no gradient, else a float tensor on its device.

    Both ways carry the same numbers: rounding the tensor gives the bytes of the image.

    Args:
        tensor: (C, H, W) or (1, C, H, W) with 1, 3 or 4 channels; uint8, uint16 or floating (0..1).
        source: Its name in messages.
        reading: How it is read.
        notes: Takes what the reader of a score should know.

    Returns:
        An RGB image, or a tensor (3, H, W) with 0..255, not rounded, float32 (float64 stays), with its gradient.

    Raises:
        ImageError: Another shape, type, layout or range.

    Example:
        >>> import torch
        >>> from qsit_metric.pixels import Reading
        >>> grey = torch.full((3, 1, 1), 0.5, requires_grad=True)
        >>> tensor_to_rgb(grey, "<example>", Reading(), []).detach().flatten().tolist()
        [127.5, 127.5, 127.5]
    """
    import torch

    planes = _planes(tensor, source)
    on_cpu = tensor.device.type == "cpu"
    colours = planes[:3]
    numbers = colours if colours.dtype == torch.uint8 else _scaled(colours, source, reading, notes)
    if len(planes) == 4:
        numbers = _over(numbers, planes[3:], source, reading, notes)
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
    raise unusable(source, f"values in [0, 1], not {_shown(low)}..{_shown(high)}", found)


def _shown(value: float) -> str:
    """A value with few digits, but as many as show on which side of 0 and 1 it is."""
    short = (float(f"{value:.{digits}g}") for digits in range(5, 18))
    return repr(next((one for one in short if (one < 0, one > 1) == (value < 0, value > 1)), value))


_GUESSES: tuple[tuple[Callable[[float, float], bool], str], ...] = (
    (lambda low, high: not math.isfinite(low + high), "It holds NaN or infinite values: look at what produced it."),
    (
        lambda low, high: low > -0.3 and high < 1.3,
        "If that is overshoot, clamp it to 0..1, as after each bicubic resize: np.clip(x, 0, 1), x.clamp(0, 1).",
    ),
    (lambda low, high: low >= -1.3 and high < 1.3, "It looks like -1..1: pass (x + 1) / 2, clamped to 0..1."),
    (lambda low, high: low >= 0 and high <= 255, "It looks like 0..255: divide by 255 or pass uint8."),
    (lambda low, high: low >= 0 and high <= 65535, "It looks like 0..65535: divide by 65535 or pass uint16."),
    (lambda low, high: True, "If a mean and a standard deviation were applied, undo them."),
)


def _converted(image: Image.Image) -> Image.Image:
    """What Pillow makes of 8-bit modes."""
    if image.mode == "RGB":
        return image
    if image.mode == "La":  # PIL has no direct way
        return image.convert("LA").convert("RGB")
    if "transparency" in image.info:
        # It changes no pixel of the RGB picture, but makes PIL warn, or fail when the palette is full.
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _flat(values: NDArray[Any], source: str, reading: Reading, notes: list[str]) -> Image.Image:
    """Turn (H, W, 1 to 4) numbers of a known type into RGB: 2 and 4 channels end with alpha."""
    count = values.shape[2]
    colours = values[..., : count - 1] if count in (2, 4) else values
    if count in (1, 3):
        return _image(_quantised(colours, source, reading, notes))
    alpha = values[..., count - 1 :]
    full = _white(colours, reading) if alpha.max() <= _white(colours, reading) else _white(colours, None)
    if reading.behind is None:
        say_transparent(float((alpha < full).mean()), notes)
        return _image(_quantised(colours, source, reading, notes))
    _check(colours, source, reading, notes)
    _check_alpha(float(alpha.min()), float(alpha.max()), full, source)
    kind = np.float64 if values.dtype == np.float64 else np.float32
    # Whole numbers become bytes first, as they are in a file; floats stay what they are, as in a tensor.
    numbers = colours * kind(255) if colours.dtype.kind == "f" else _bytes(colours, reading.white).astype(kind)
    opacity: Any = alpha if full == 1 else _bytes(alpha, full)
    opacity = opacity.astype(kind) / (1 if full == 1 else 255)
    return _image(np.rint(blend(numbers, opacity, reading)).astype(np.uint8))


def _white(values: NDArray[Any], reading: Reading | None) -> int:
    """The number that means white."""
    if values.dtype.kind == "f":
        return 1
    return 255 if values.dtype.itemsize == 1 else reading.white if reading else 65535


def _quantised(values: NDArray[Any], source: str, reading: Reading, notes: list[str]) -> NDArray[np.uint8]:
    """Colours of a known type as bytes."""
    _check(values, source, reading, notes)
    if values.dtype.kind == "f":
        values = values.astype(np.float32) if values.dtype.itemsize < 4 else values
        rounded: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
        return rounded
    return _bytes(values, reading.white)


def _bytes(values: NDArray[Any], white: int) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = values if values.dtype.itemsize == 1 else _table(white)[values]
    return found


@lru_cache(maxsize=4)
def _table(white: int) -> NDArray[np.uint8]:
    # round(255 v / white): both are odd, so no value lies halfway.
    return ((np.arange(white + 1, dtype=np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _check(values: NDArray[Any], source: str, reading: Reading, notes: list[str]) -> None:
    """Refuse numbers outside the range of their type, and note those that stay far below it."""
    if values.dtype.kind == "f":
        # Half floats would show a range that they do not have.
        values = values.astype(np.float32) if values.dtype.itemsize < 4 else values
        check_unit(float(values.min()), float(values.max()), source)
    elif values.dtype.itemsize > 1:
        check_deep(int(values.min()), int(values.max()), source, reading, notes)


def check_deep(low: int, high: int, source: str, reading: Reading, notes: list[str]) -> None:
    """Refuse whole numbers outside 0..white, and note those that use a small part of 16 bits.

    Args:
        low: Smallest value.
        high: Largest value.
        source: Name of the picture in messages.
        reading: Says how many bits are in use.
        notes: Takes what the reader of a score should know.

    Raises:
        ImageError: A value outside.

    Example:
        >>> from qsit_metric.pixels import Reading
        >>> check_deep(0, 4095, "<example>", Reading(), found := [])
        >>> found
        ['values reach 4095 of 65535 (bits=12 if 4095 is white)']
    """
    if low < 0 or high > 65535:
        raise unusable(source, f"16-bit values 0..65535, not {low}..{high}", "Rescale it and pass an array.")
    if high > reading.white:
        hint = "Leave `bits` out if the values are 16-bit, or pass the number of bits that are in use."
        raise unusable(source, f"{reading.bits}-bit values 0..{reading.white}, not {low}..{high}", hint)
    bits = next((bits for bits in _STEPS if high < 2**bits), None)
    if reading.bits is None and bits and high:
        notes.append(f"values reach {high} of 65535 (bits={bits} if {2**bits - 1} is white)")


def _check_alpha(low: float, high: float, full: float, source: str) -> None:
    if not (low >= 0 and high <= full):
        raise unusable(source, f"alpha in [0, {full}], not {low:.6g}..{high:.6g}", "Leave alpha or `background` out.")


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
    return planes


def _scaled(planes: torch.Tensor, source: str, reading: Reading, notes: list[str]) -> torch.Tensor:
    import torch

    if planes.dtype == torch.uint16:
        values = planes.int()  # torch can do little with uint16
        check_deep(int(values.min()), int(values.max()), source, reading, notes)
        return (values.float() * 255 / reading.white).round()
    if planes.dtype not in {torch.float16, torch.bfloat16, torch.float32, torch.float64}:
        hint = "Call `.to(torch.uint8)` if the values are 0..255, `.float()` if they are 0..1."
        raise unusable(source, "uint8, float16, bfloat16, float32 or float64", hint)
    # Half floats cannot hold 255 steps; float64 stays, as finite differences need it.
    numbers = planes if planes.dtype == torch.float64 else planes.float()
    low, high = torch.aminmax(numbers.detach())
    check_unit(low.item(), high.item(), source)
    return numbers * 255


def _over(numbers: torch.Tensor, alpha: torch.Tensor, source: str, reading: Reading, notes: list[str]) -> torch.Tensor:
    """Lay numbers 0..255 on the background by their alpha plane, or note how much of them is transparent."""
    import torch

    wide = alpha.dtype == torch.uint16
    plane = alpha.int() if wide else alpha
    full = 1.0 if alpha.is_floating_point() else 255.0 if alpha.dtype == torch.uint8 else float(reading.white)
    full = 65535.0 if wide and plane.max().item() > full else full
    if reading.behind is None:
        say_transparent((plane < full).double().mean().item(), notes)
        return numbers
    low, high = torch.aminmax(plane.detach())
    _check_alpha(low.item(), high.item(), full, source)
    opacity = plane.to(torch.float64 if numbers.dtype == torch.float64 else torch.float32) / full
    opacity = (opacity * 255).round() / 255 if wide else opacity
    behind = torch.tensor(reading.behind, dtype=opacity.dtype, device=opacity.device)[:, None, None]
    return numbers * opacity + behind * (1 - opacity)


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


_NUMBERS = frozenset({"uint8", "uint16", "float16", "float32", "float64"})
