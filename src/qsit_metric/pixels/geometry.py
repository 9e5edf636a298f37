"""The tile sizes and pixel scaling of a checkpoint, read from its config files, which must agree. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError, InputError

_BICUBIC = 3  # PIL.Image.Resampling.BICUBIC, as the config files write it
_ANYRES = "anyres_max_"
_PROCESSORS = ("LlavaOnevisionImageProcessor", "LlavaOnevisionImageProcessorFast", "LlavaOnevisionImageProcessorPil")


@dataclass(frozen=True)
class Geometry:
    """Tile sizes and pixel scaling of one checkpoint; the defaults are those of Q-SiT.

    Attributes:
        tile: Side of a tile in pixels.
        patch: Side of a patch of the vision tower in pixels.
        grids: Allowed grid sizes in pixels, (height, width), each a multiple of `tile`.
        max_tiles: Feature budget of the grid, in tiles (9 for "anyres_max_9").
        mean: Per channel, taken off the pixels in 0..1.
        std: Per channel, the divisor after that.
    """

    tile: int = 384
    patch: int = 14
    grids: tuple[tuple[int, int], ...] = tuple((384 * rows, 384 * cols) for rows in range(1, 7) for cols in range(1, 7))
    max_tiles: int = 9
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def side(self) -> int:
        """Patches along one side of a tile (27 for Q-SiT)."""
        return self.tile // self.patch

    def at_most(self, tiles: int) -> Geometry:
        """Copy without the grids that make more tiles of a picture, the squeezed whole included.

        Raises:
            InputError: No grid is left.

        Example:
            >>> Geometry().at_most(3).grids
            ((384, 384), (384, 768), (768, 384))
        """
        count = [height * width // self.tile**2 + 1 for height, width in self.grids]
        if min(count) > tiles:
            raise InputError.about("max_tiles", tiles, f"at least {min(count)}: the whole and the smallest grid")
        left = tuple(grid for grid, its in zip(self.grids, count, strict=True) if its <= tiles)
        return dataclasses.replace(self, grids=left)

    @classmethod
    def from_configs(cls, config: Mapping[str, Any], processor: Mapping[str, Any]) -> Geometry:
        """Read `config.json` and the image-processor settings, and refuse a pair that disagrees.

        Args:
            config: The model's config (`config.json`).
            processor: The image processor's (`preprocessor_config.json`).

        Raises:
            CheckpointError: A field is missing or unsupported, or the two files contradict each other.
        """
        vision = _mapping(config, "vision_config")
        tile, patch = _number(vision, "image_size"), _number(vision, "patch_size")
        _check_processor(processor, tile)
        grids = _grids(config, processor, tile)
        max_tiles = _max_tiles(config.get("vision_aspect_ratio", _ANYRES + "9"))
        mean, std = _triple(processor, "image_mean"), _triple(processor, "image_std")
        _require(min(std) > 0, "image_std", std, "three positive numbers")
        return cls(tile, patch, grids, max_tiles, mean, std)


def _check_processor(processor: Mapping[str, Any], tile: int) -> None:
    """Refuse settings that this package's own preparation would not follow."""
    kind = processor.get("image_processor_type", _PROCESSORS[0])
    _require(kind in _PROCESSORS, "image_processor_type", kind, f"one of {', '.join(_PROCESSORS)}")
    for flag in ("do_resize", "do_rescale", "do_normalize"):
        _require(processor.get(flag, True) is True, flag, processor.get(flag), "true")
    _require(processor.get("resample", _BICUBIC) == _BICUBIC, "resample", processor.get("resample"), "3 (bicubic)")
    factor = processor.get("rescale_factor", 1 / 255)
    _require(isinstance(factor, float) and abs(factor * 255 - 1) < 1e-6, "rescale_factor", factor, "1/255")
    size = processor.get("size", {"height": tile, "width": tile})
    square = {"height": tile, "width": tile}
    _require(size == square, "size", size, f"{square}, the vision tower's image_size")


def _grids(config: Mapping[str, Any], processor: Mapping[str, Any], tile: int) -> tuple[tuple[int, int], ...]:
    ours, theirs = (_pinpoints(source) for source in (config, processor))
    pinpoints = ours if ours is not None else theirs
    _require(
        theirs is None or ours is None or ours == theirs,
        "image_grid_pinpoints",
        f"<{ours} in config.json, {theirs} in preprocessor_config.json>",
        "the same list in both files",
    )
    if pinpoints is None:
        return tuple((tile * rows, tile * cols) for rows in range(1, 7) for cols in range(1, 7))
    whole = bool(pinpoints) and all(side > 0 and side % tile == 0 for grid in pinpoints for side in grid)
    _require(whole, "image_grid_pinpoints", pinpoints, f"positive multiples of the tile size {tile}")
    return pinpoints


def _pinpoints(source: Mapping[str, Any]) -> tuple[tuple[int, int], ...] | None:
    found = source.get("image_grid_pinpoints")
    if found is None:
        return None
    pairs = isinstance(found, list) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in found)
    numbers = pairs and all(isinstance(side, int) for pair in found for side in pair)
    _require(numbers, "image_grid_pinpoints", found, "a list of (height, width) pairs")
    return tuple((height, width) for height, width in found)


def _max_tiles(aspect: object) -> int:
    digits = str(aspect)[len(_ANYRES) :]
    good = str(aspect).startswith(_ANYRES) and digits.isdigit() and int(digits) > 0
    _require(good, "vision_aspect_ratio", aspect, f"'{_ANYRES}N' with N of 1 or more")
    return int(digits)


def _mapping(config: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = config.get(field)
    _require(isinstance(value, Mapping), field, value, "an object")
    return dict(value or {})


def _number(config: Mapping[str, Any], field: str) -> int:
    value = config.get(field)
    _require(isinstance(value, int) and value > 0, field, value, "a positive whole number")
    return int(value or 0)


def _triple(config: Mapping[str, Any], field: str) -> tuple[float, float, float]:
    value = config.get(field)
    good = isinstance(value, (list, tuple)) and len(value) == 3 and all(isinstance(v, (int, float)) for v in value)
    _require(good, field, value, "three numbers")
    red, green, blue = value if isinstance(value, (list, tuple)) else (0, 0, 0)
    return float(red), float(green), float(blue)


def _require(condition: bool, field: str, value: object, expected: str) -> None:
    if not condition:
        hint = "The checkpoint's files do not fit each other; download it again or repair that file."
        raise CheckpointError.about(field, value, expected, hint)
