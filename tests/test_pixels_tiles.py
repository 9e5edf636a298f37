"""AnyRes against transformers' own processor and packing, over random sizes."""

from __future__ import annotations

import contextlib
import math
import threading

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import GOLDEN
from qsit_metric.errors import ImageError
from qsit_metric.pixels import Picture, load
from qsit_metric.pixels import tiles as tiles_module
from qsit_metric.pixels.geometry import Geometry
from qsit_metric.pixels.resize import resize_image
from qsit_metric.pixels.tiles import cut, normalise, pack, plan

pytestmark = pytest.mark.compat

QSIT = Geometry()
SMALL = Geometry(tile=28, patch=14, grids=tuple((28 * r, 28 * c) for r in range(1, 7) for c in range(1, 7)))
SIZE = st.one_of(
    st.integers(2, 5000), st.integers(2, 40), st.sampled_from([383, 384, 385, 768, 1151, 2303, 2305, 5000])
)


def their_processor():
    """The PIL image processor of the installed transformers; it needs no torchvision."""
    if int(transformers.__version__.split(".")[0]) >= 5:
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil as Processor,
        )
    else:
        from transformers import LlavaOnevisionImageProcessor as Processor
    return Processor.from_pretrained(GOLDEN / "tied")


@contextlib.contextmanager
def width_first():
    """Make Pillow 13 resize in the order of Pillow 11, for their processor's sake."""
    resize = Image.Image.resize

    def in_order(self, size, resample=None, box=None, reducing_gap=None):
        wide = resize(self, (size[0], self.height), resample, box, reducing_gap)
        return resize(wide, size, resample, None, reducing_gap)

    Image.Image.resize = in_order
    try:
        yield
    finally:
        Image.Image.resize = resize


def their_core():
    """`LlavaOnevisionModel` of the installed transformers, for its packing of features; no weights are used."""
    from transformers import LlavaOnevisionConfig
    from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

    with torch.device("meta"):
        return LlavaOnevisionModel(LlavaOnevisionConfig.from_pretrained(GOLDEN / "tied"))


@settings(max_examples=300, deadline=None)
@given(SIZE, SIZE)
def test_plan_equals_theirs(height, width):
    from transformers.image_processing_utils import get_patch_output_size, select_best_resolution

    mine = plan(QSIT, height, width)
    best = select_best_resolution((height, width), [list(grid) for grid in QSIT.grids])
    assert (mine.grid[0] * 384, mine.grid[1] * 384) == best
    assert mine.fitted == get_patch_output_size(np.empty((height, width, 1), dtype=bool), best, "channels_last")
    assert mine.tiles == 1 + mine.grid[0] * mine.grid[1]


@settings(max_examples=120, deadline=None)
@given(SIZE, SIZE)
def test_packing_and_token_count_equal_theirs(height, width):
    mine = plan(QSIT, height, width)
    features = torch.randn(mine.tiles, QSIT.side**2, 2, generator=torch.Generator().manual_seed(height * 7919 + width))
    newline = torch.tensor([7.0, -7.0])
    packed = pack(features, mine, newline)
    assert len(packed) == mine.tokens
    theirs, lengths = their_core().pack_image_features(
        [features], torch.tensor([[height, width]]), image_newline=newline
    )
    assert torch.equal(packed, theirs[0])
    assert int(lengths[0]) == mine.tokens


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 900), st.integers(2, 900), st.integers(0, 5))
def test_pixels_equal_their_processor(height, width, seed):
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mine = plan(QSIT, height, width)
    if min(height, width) <= 4:
        return  # their channel guess reads rows as channels
    with width_first():
        theirs = np.asarray(their_processor()(images=[Image.fromarray(array)], return_tensors="np")["pixel_values"][0])
    ours = normalise(cut(load(array), QSIT), QSIT).numpy()
    assert ours.shape == theirs.shape
    # Later releases pad an odd border where the authors' stretches the last strip.
    rows, cols = mine.grid
    settled = np.ones(len(ours), dtype=bool)
    if mine.short[0]:
        settled[1 + (rows - 1) * cols :] = False
    if mine.short[1]:
        settled[cols::cols] = False
    assert np.array_equal(ours[settled], theirs[settled])


def test_their_processor_cannot_be_meant_by_the_golden_set():
    """The reason for our own cut: on an odd border the installed release differs from the one that Q-SiT was made with."""
    image = load(GOLDEN / "images" / "tiny_7x5.png")
    assert plan(QSIT, 5, 7).short == (1, 0)
    theirs = np.asarray(their_processor()(images=[image.pixels], return_tensors="np")["pixel_values"][0])
    assert np.abs(normalise(cut(image, QSIT), QSIT).numpy()[1] - theirs[1]).max() > 0.1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700))
def test_tensors_and_pictures_are_cut_alike(height, width):
    array = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1).float()
    by_image, by_tensor = cut(load(array), SMALL), cut(Picture(tensor, "tensor"), SMALL)
    assert by_image.dtype == torch.uint8
    assert torch.equal(by_image.float(), by_tensor)
    assert plan(SMALL, height, width).tokens > SMALL.side**2


def one_after_another(image, geometry):
    """The tiles from two resizes of the whole picture, without bands, columns or threads."""
    layout, tile = plan(geometry, image.height, image.width), geometry.tile
    (rows, cols), (top, left) = layout.grid, layout.offset
    canvas = Image.new("RGB", (cols * tile, rows * tile))
    canvas.paste(resize_image(image, layout.fitted), (left, top))
    for axis in (axis for axis in (0, 1) if layout.short[axis]):
        top, left = ((rows - 1) * tile, 0) if axis == 0 else (0, (cols - 1) * tile)
        strip = canvas.crop((left, top, cols * tile - (axis == 1), rows * tile - (axis == 0)))
        canvas.paste(resize_image(strip, (rows * tile - top, cols * tile - left)), (left, top))
    boxes = [(c * tile, r * tile, (c + 1) * tile, (r + 1) * tile) for r in range(rows) for c in range(cols)]
    tiles = [resize_image(image, (tile, tile)), *(canvas.crop(box) for box in boxes)]
    return torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in tiles])


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([50, 1000, 10**6]), st.integers(1, 3))
def test_neither_bands_nor_threads_change_a_bit(height, width, band, threads):
    image = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles_module, "_BAND", band)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        assert torch.equal(cut(Picture(image, "picture"), SMALL), one_after_another(image, SMALL))


@pytest.mark.parametrize("size", [(1, 90), (90, 1), (3, 40), (40, 3), (57, 29), (10, 10)])
@pytest.mark.parametrize("grids", [((56, 168),), ((168, 56),), ((84, 84),)])
def test_columns_may_lie_in_the_border_where_no_grid_fits(size, grids):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8))
    geometry = Geometry(tile=28, patch=14, grids=grids)
    assert torch.equal(cut(Picture(image, "picture"), geometry), one_after_another(image, geometry))


@pytest.mark.parametrize("size", [(4000, 3000), (1024, 768), (3, 5000), (5000, 3), (1151, 2303)])
def test_bands_and_threads_change_no_bit_of_large_pictures(size, monkeypatch):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert torch.equal(cut(Picture(image, "picture"), QSIT), one_after_another(image, QSIT))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_cutting_on_a_device_gives_the_same_bytes(height, width):
    picture = load(np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8))
    there = cut(picture, SMALL, device="cpu")
    assert there.dtype == torch.uint8
    assert torch.equal(there, cut(picture, SMALL))


@pytest.mark.parametrize("name", ["large_1800x1350.jpg", "landscape_600x400.jpg", "panorama_1600x200.jpg"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_scaled_decoding_of_jpeg_cannot_be_used(name, scale):
    """The reason why every picture is decoded in full: even the small whole gets other pixels."""
    with Image.open(GOLDEN / "images" / name) as full, Image.open(GOLDEN / "images" / name) as scaled:
        scaled.draft("RGB", (full.width // scale, full.height // scale))
        assert scaled.width < full.width
        whole, other = (resize_image(image.convert("RGB"), (96, 96)) for image in (full, scaled))
    assert (np.asarray(whole) != np.asarray(other)).any(axis=-1).mean() > 0.1


@pytest.mark.gpu
def test_cutting_on_a_gpu_gives_the_same_bytes():
    picture = load(np.random.default_rng(3).integers(0, 256, (1500, 2001, 3), dtype=np.uint8))
    there = cut(picture, QSIT, device="cuda")
    assert there.device.type == "cuda"
    assert torch.equal(there.cpu(), cut(picture, QSIT))


def test_pictures_cut_at_one_time_share_the_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    helpers, used = tiles_module._Helpers(), []

    def threads(spread):
        barrier = threading.Event()
        names = set(spread(lambda part: (barrier.wait(0.05), threading.current_thread().name)[1], range(3)))
        used.append(len(names))

    with helpers.share(parts=3) as first, helpers.share(parts=3) as second:
        threads(first)
        threads(second)
    with pytest.raises(ImageError), helpers.share(parts=2):
        raise ImageError("what fails gives its threads back")
    with helpers.share(parts=3) as last:
        threads(last)
    assert used == [3, 1, 3]


@settings(deadline=None)
@given(st.integers(1, 60), st.sampled_from([0, 0, 1, 2, 9]), st.booleans())
def test_a_picture_that_fills_one_tile_is_single_and_its_two_tiles_are_equal(side, wider, as_tensor):
    array = np.random.default_rng(side).integers(0, 256, (side, side + wider, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1).float()
    layout, tiles = plan(SMALL, *array.shape[:2]), cut(Picture(tensor, "tensor") if as_tensor else load(array), SMALL)
    assert layout.single == (layout.grid == (1, 1) and layout.fitted == (28, 28))
    assert not layout.single or (len(tiles) == 2 and torch.equal(*tiles))


def test_tiles_are_the_squeezed_whole_then_the_grid_in_rows():
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.uint8)
    quadrants = colours.view(2, 2, 3).repeat_interleave(28, 0).repeat_interleave(28, 1)
    tiles = cut(load(quadrants.numpy()), SMALL)
    assert len(tiles) == 5
    for tile, colour in zip(tiles[1:], colours, strict=True):
        assert torch.equal(tile, colour[:, None, None].expand(3, 28, 28))
    assert torch.equal(tiles[0][:, 0, 0], colours[0])
    assert torch.equal(tiles[0][:, -1, -1], colours[3])


def test_the_border_is_black_and_centred():
    white = np.full((20, 56, 3), 255, dtype=np.uint8)
    layout = plan(SMALL, *white.shape[:2])
    grid = cut(load(white), SMALL)[1:]
    assert (layout.grid, layout.offset) == ((1, 2), (4, 0))
    assert grid[:, :, :4].max() == grid[:, :, -4:].max() == 0
    assert grid[:, :, 4:-4].min() == 255


@pytest.mark.parametrize(
    ("size", "tiles", "tokens"),
    [
        ((512, 512), 5, 3699),
        ((768, 1024), 7, 4725),
        ((3000, 4000), 31, 7309),
        ((480, 640), 5, 2929),
        ((384, 512), 3, 1728),
    ],
)
def test_published_counts(size, tiles, tokens):
    """Counts of the common data sets' sizes, from the formula of the Hugging Face processor."""
    layout = plan(QSIT, *size)
    assert (layout.tiles, layout.tokens) == (tiles, tokens)


def test_all_sizes_cost_less_than_the_stated_maximum():
    most = max(plan(QSIT, h, w).tokens for h in range(2, 5001, 97) for w in range(2, 5001, 97))
    assert 8500 < most <= 8800  # features are sampled down only past 1.1 times the budget


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0)])
def test_no_pixels(height, width):
    with pytest.raises(ImageError, match=f"`image`: got <{width}x{height} pixels>, expected at least one pixel"):
        plan(QSIT, height, width)


def test_scaling_is_exact_for_every_grey_level():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = np.float32(0.48145466), np.float32(0.26862954)
    numpy = ((np.arange(256, dtype=np.uint8) * 0.00392156862745098).astype(np.float32) - mean) / std
    odd = Geometry(mean=(float(mean),) * 3, std=(float(std),) * 3)
    assert np.array_equal(normalise(levels, odd)[0, 0].flatten().numpy(), numpy)
    assert math.isclose(float(normalise(levels, QSIT).max()), 1.0)
