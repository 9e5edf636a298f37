"""Processors of transformers: how one is built without torchvision, and what it makes of one picture.

`AutoProcessor` refuses families that read films as well where torchvision is missing, although pictures do not need
it. So the image processor (always in the form that works on PIL pictures, hence the same numbers with and without
torchvision), the tokenizer and the template are put together here.

For two kinds of image processor the steps are ours, to the same bits (`Patches`, `Tiles`): they run in the threads that
read pictures, and they have a gradient. A processor that does something else on a probe is asked itself.
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import BackendError, CheckpointError, DependencyError, QSiTError
from ..pixels.resize import resize_tensor
from .families import Family, refuse_remote_code
from .files import read_json
from .pretrained import first_line

_log = logging.getLogger("qsit_metric")
_MISSING = re.compile(r"requires the (\w+) library|`(\w+)` to be installed|No module named '(\w+)|`(\w+)` is required")
_PROBES = ((70, 45), (41, 130))  # (width, height): one that is wide, one that is high
_BICUBIC = 3

Pictured = Image.Image | torch.Tensor


@dataclass(frozen=True)
class Pixels:
    """A picture as its processor hands it to the model.

    Attributes:
        tensors: What the vision tower takes; those of several pictures are joined along the first axis.
        ids: The picture's place in the text.
        kinds: Further rows of the same length that the model reads beside the ids ("mm_token_type_ids").
    """

    tensors: Mapping[str, torch.Tensor]
    ids: tuple[int, ...]
    kinds: Mapping[str, tuple[int, ...]]


def load_processor(folder: Path) -> Any:
    """The processor that belongs to the checkpoint, for pictures and text.

    Raises:
        DependencyError: It needs a package that is not installed.
        CheckpointError: It cannot be built, needs remote code, or does not read both images and text.
    """
    try:
        processor = _assembled(folder) or _automatic(folder)
    except Exception as error:  # tokenizers raises bare exceptions
        refuse_remote_code(folder)
        raise _explained(error, folder) from error
    if not all(hasattr(processor, part) for part in ("tokenizer", "image_processor")):
        got = f"<a {type(processor).__name__} in {folder}>"
        raise CheckpointError.about("model", got, "a processor of images and text", "Is processor_config.json there?")
    return processor


def _automatic(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _assembled(folder: Path) -> Any:
    """A processor of a family that also reads films, without that half; None for other families."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    if not read_json(folder, "config.json"):
        return None
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    family = PROCESSOR_MAPPING.get(type(config), None)
    if family is None or "video_processor" not in inspect.signature(family.__init__).parameters:
        return None
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    settings = read_json(folder, "processor_config.json")
    known = set(inspect.signature(family.__init__).parameters) - {"self", "image_processor", "tokenizer"}
    extra = {name: value for name, value in settings.items() if name in known and name != "video_processor"}
    if template := _template(folder):
        extra["chat_template"] = template
    return pictures_only(family)(image_processor=_image_processor(folder), tokenizer=tokenizer, **extra)


def pictures_only(family: Any) -> Any:
    """The processor class `family` without its video half, which alone needs torchvision."""
    known = family.get_attributes() if hasattr(family, "get_attributes") else family.attributes
    names = [name for name in known if name != "video_processor"]
    own = {"__module__": family.__module__, "attributes": names, "get_attributes": classmethod(lambda cls: names)}
    return type(family.__name__, (family,), own)


def _image_processor(folder: Path) -> Any:
    """The image processor in its form for PIL pictures."""
    import transformers
    from packaging.version import Version

    new = Version(transformers.__version__) >= Version("5")
    form: dict[str, Any] = {"backend": "pil"} if new else {"use_fast": False}
    return transformers.AutoImageProcessor.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **form
    )


def _template(folder: Path) -> Any:
    from .template import load_template

    try:
        return load_template(folder)
    except CheckpointError:
        return None  # said when a prompt is to be written: a recipe may bring its own


def _explained(error: BaseException, folder: Path) -> QSiTError:
    """Why a processor cannot be built; a missing package is told in several ways by transformers."""
    names = [name for found in _MISSING.findall("".join(traceback.format_exception(error, limit=0))) for name in found]
    names = [name.lower() for name in names if name]  # the deepest cause comes first
    if not names and not isinstance(error, ImportError):
        return CheckpointError.about("model", str(folder), "a processor that can be built", first_line(error))
    package = names[0] if names else "a package"
    hint = f"Run `pip install {package}`." if names else first_line(error)
    hint += " For LLaVA-OneVision checkpoints, backend='llava_onevision' does without."
    return DependencyError.about("model", str(folder), f"{package} to be installed, which its processor needs", hint)


class Reader:
    """Makes pictures of any size ready one by one, as the processor does.

    Args:
        processor: Of images and text.
        family: What is known of the checkpoint's family.

    Attributes:
        exact: Whether the steps are ours, so that they have a gradient.
        rounding: False: the linear resize, for finite-difference tests.

    Raises:
        BackendError: The processor does not put a picture where its own image token stands.
    """

    def __init__(self, processor: Any, family: Family) -> None:
        self._processor = processor
        self.marker = str(processor.image_token)
        self.rounding = True
        kinds: dict[str, dict[int, int]] = {}
        asked = [self._asked(_probe(*size), kinds) for size in _PROBES]
        self._kinds = kinds
        self._steps = _steps(family, processor)
        self.exact = self._steps is not None and all(
            self._agrees(_probe(*size), found) for size, found in zip(_PROBES, asked, strict=True)
        )

    def __call__(self, picture: Pictured) -> Pixels:
        """Make one picture ready.

        Args:
            picture: An RGB picture, or a tensor (3, H, W) in 0..255.
        """
        if self.exact:
            return self._ours(picture)
        return self._asked(image_of(picture), {})

    def _ours(self, picture: Pictured) -> Pixels:
        steps = self._steps
        if steps is None:
            raise BackendError("`x`: this processor's steps are not known, so they cannot be taken here.")
        tensors, ids = steps(picture, self.rounding)
        kinds = {name: tuple(kind.get(token, 0) for token in ids) for name, kind in self._kinds.items()}
        return Pixels(tensors, ids, kinds)

    def _asked(self, image: Image.Image, seen: dict[str, dict[int, int]]) -> Pixels:
        """What the processor itself says; the kind of each id of a picture is noted in `seen`."""
        try:
            batch = self._processor(text=[self.marker], images=[[image]], return_tensors="pt", add_special_tokens=False)
        except Exception as error:  # a processor may fail in any way
            raise refused(image.size, error) from error
        ids = tuple(batch.pop("input_ids")[0].tolist())
        batch.pop("attention_mask", None)
        rows = {
            name: tuple(batch.pop(name)[0].tolist())
            for name in [name for name in batch if name.endswith("token_type_ids")]
        }
        for name, row in rows.items():
            seen.setdefault(name, {}).update(zip(ids, row, strict=True))
        return Pixels({n: v for n, v in batch.items() if isinstance(v, torch.Tensor)}, ids, rows)

    def _agrees(self, image: Image.Image, theirs: Pixels) -> bool:
        """Whether our steps make of a picture what the processor makes of it."""
        try:
            ours = self._ours(image)
        except Exception as error:  # noqa: BLE001  # settings that the steps do not know: then the processor is asked
            _log.debug("the steps of %s are not ours: %s", type(self._processor).__name__, error)
            return False
        same = set(ours.tensors) == set(theirs.tensors) and all(
            torch.equal(ours.tensors[name], value) for name, value in theirs.tensors.items()
        )
        return same and (ours.ids, ours.kinds) == (theirs.ids, theirs.kinds)


def refused(size: tuple[int, int], error: Exception) -> BackendError:
    """A picture of this width and height that a processor does not take, in words."""
    shown = f"<{size[0]}x{size[1]}>"
    return BackendError.about("image", shown, "one that its processor takes", first_line(error))


def image_of(pixels: Pictured) -> Image.Image:
    """A PIL image of whatever a picture carries.

    Raises:
        BackendError: A tensor that asks for a gradient, which ends here.
    """
    if isinstance(pixels, Image.Image):
        return pixels
    if pixels.requires_grad:
        raise BackendError.about("x", "<a tensor that requires grad>", "no gradient with the transformers backend")
    return _rounded(pixels)


def _rounded(pixels: torch.Tensor) -> Image.Image:
    levels = pixels.detach().round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy())


def _probe(width: int, height: int) -> Image.Image:
    """A picture with all frequencies, the same at each call."""
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def _steps(family: Family, processor: Any) -> Patches | Tiles | None:
    """The family's steps with the processor's settings; None for other settings."""
    inner = processor.image_processor
    wanted = ("do_resize", "do_rescale", "do_normalize")
    plain = all(getattr(inner, name, False) for name in wanted) and int(getattr(inner, "resample", -1)) == _BICUBIC
    if family.steps is None or not plain:
        return None
    return Patches(processor) if family.steps == "patches" else Tiles(processor)


class _Scaling:
    """A picture resized as Pillow does, its grey levels as an image processor scales them.

    The numbers are those of the installed Pillow and of the processor's own rescaling, to the bit. Their gradient is
    that of the linear resize: rounding and clipping pass it straight through.
    """

    def __init__(self, inner: Any) -> None:
        levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 256).repeat(3, axis=0)
        scaled = inner.normalize(
            image=inner.rescale(levels, inner.rescale_factor), mean=inner.image_mean, std=inner.image_std
        )
        self._table = torch.from_numpy(np.ascontiguousarray(scaled, dtype=np.float32)).reshape(3, 256)
        self._slope = (self._table[:, 255] - self._table[:, 0]) / 255

    def __call__(self, picture: Pictured, size: tuple[int, int], rounding: bool) -> torch.Tensor:
        """(3, height, width) float32 of a picture resized to `size` = (height, width)."""
        if isinstance(picture, Image.Image):
            return self._exact(picture, size)
        if not picture.requires_grad and rounding:
            return self._exact(_rounded(picture), size)
        linear = resize_tensor(picture, size, rounding=False)
        slope, start = (part.to(linear)[:, None, None] for part in (self._slope, self._table[:, 0]))
        if not rounding:
            return linear * slope + start
        exact = self._exact(_rounded(picture), size).to(linear)
        through = linear * slope
        return exact + (through - through.detach())

    def _exact(self, image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
        height, width = size
        resized = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)
        levels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
        return torch.stack([table[plane.int()] for table, plane in zip(self._table, levels, strict=True)])


class Patches:
    """The steps of Qwen2-VL's image processor, which the families after it kept.

    A picture keeps its proportions: both sides become multiples of a merged patch, the area is kept between two limits.
    Each patch is written twice, as two frames of a film that stands still.

    Reference: transformers, `Qwen2VLImageProcessorPil` (5.x), `Qwen2VLImageProcessor` (4.57).
    """

    def __init__(self, processor: Any) -> None:
        inner = processor.image_processor
        self._scaling = _Scaling(inner)
        self._fit = sys.modules[type(inner).__module__].smart_resize
        size = dict(inner.size)
        self._limits = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
        self._patch, self._merge, self._frames = inner.patch_size, inner.merge_size, inner.temporal_patch_size
        self._image = int(processor.image_token_id)

    def __call__(self, picture: Pictured, rounding: bool) -> tuple[dict[str, torch.Tensor], tuple[int, ...]]:
        """Tensors of one picture, and its ids."""
        width, height = _size(picture)
        try:
            fitted = self._fit(height, width, factor=self._patch * self._merge, **self._limits)
        except ValueError as error:  # a picture too long for its width
            raise refused((width, height), error) from error
        pixels = self._scaling(picture, fitted, rounding)
        rows, columns = fitted[0] // self._patch, fitted[1] // self._patch
        grid = torch.tensor([[1, rows, columns]])
        ids = (self._image,) * (rows * columns // self._merge**2)
        return {"pixel_values": self._cut(pixels, rows, columns), "image_grid_thw": grid}, ids

    def _cut(self, pixels: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """(3, H, W) -> (patches, 3 * frames * patch * patch), the patches of a merged one side by side."""
        side, merge = self._patch, self._merge
        blocks = pixels.reshape(3, rows // merge, merge, side, columns // merge, merge, side)
        blocks = blocks.permute(1, 4, 2, 5, 0, 3, 6).unsqueeze(5)
        return blocks.expand(*blocks.shape[:5], self._frames, side, side).reshape(rows * columns, -1)


class Tiles:
    """The steps of GOT-OCR2's image processor as InternVL uses it: tiles of one size, then the squeezed whole.

    Reference: transformers, `GotOcr2ImageProcessorPil` (5.x), `GotOcr2ImageProcessor` (4.57).
    """

    def __init__(self, processor: Any) -> None:
        inner = processor.image_processor
        self._scaling = _Scaling(inner)
        self._plan = sys.modules[type(inner).__module__].get_optimal_tiled_canvas
        size = dict(inner.size)
        self._size = size["height"], size["width"]
        self._limits = int(inner.min_patches), int(inner.max_patches)
        self._tokens = int(processor.image_seq_length)
        self._ids = processor.start_image_token_id, processor.image_token_id, processor.end_image_token_id

    def __call__(self, picture: Pictured, rounding: bool) -> tuple[dict[str, torch.Tensor], tuple[int, ...]]:
        """Tensors of one picture, and its ids."""
        width, height = _size(picture)
        columns, rows = self._plan((height, width), self._size, *self._limits)
        whole = self._scaling(picture, (self._size[0] * rows, self._size[1] * columns), rounding)
        tiles = [
            tile
            for band in torch.split(whole, self._size[0], dim=1)
            for tile in torch.split(band, self._size[1], dim=2)
        ]
        if len(tiles) > 1:
            tiles.append(self._scaling(picture, self._size, rounding))
        start, image, end = self._ids
        return {"pixel_values": torch.stack(tiles)}, (start, *(image,) * (self._tokens * len(tiles)), end)


def _size(picture: Pictured) -> tuple[int, int]:
    """(width, height)."""
    return picture.size if isinstance(picture, Image.Image) else (picture.shape[2], picture.shape[1])
