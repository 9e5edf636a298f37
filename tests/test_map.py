"""`metric.map`: local scores are scores of crops, on every backend; the gradient is that of the score."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from brightness import Brightness
from conftest import IMAGES
from qsit_metric import Budget, QSiT, QSiTError, QualityMap, Score
from qsit_metric.errors import BackendError, ImageError, InputError
from qsit_metric.maps import Box, MapRequest, Windows, map_quality
from qsit_metric.pixels import Picture
from training import small_base

PHOTO = IMAGES / "landscape_451x300.png"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A LLaVA-OneVision model of random weights, with tiles of 32 pixels."""
    return QSiT(small_base(tmp_path_factory.mktemp("model") / "small"), device="cpu")


@pytest.fixture
def bright():
    return QSiT(Brightness())


@pytest.fixture(scope="module")
def photo():
    return Image.open(PHOTO).convert("RGB").resize((150, 100))


def dark_corner(size=(128, 96)):
    """Light, with a dark lower left quadrant."""
    pixels = np.full((size[1], size[0], 3), 220, dtype=np.uint8)
    pixels[size[1] // 2 :, : size[0] // 2] = 30
    return pixels


def made(**changes) -> QualityMap:
    """A map without a model."""
    fields = {
        "values": np.array([[3.0, 4.0], [1.5, 3.5]]), "windows": Windows.over(100, 150, 80, 80),
        "score": Score(3.2, {"bad": 0.1, "good": 0.9}), "method": "windows", "source": "a.png",
        "preview": Image.new("RGB", (150, 100), (90, 120, 60)),
    }  # fmt: skip
    return QualityMap(**{**fields, **changes})


# ---- values


def test_local_scores_are_those_of_crops_scored_by_hand(small, photo):
    found = small.map(photo, window=32, stride=24)
    assert found.shape == (4, 6)
    for box, value in zip(found.windows.boxes(), found.values.flat, strict=True):
        assert value == pytest.approx(small.score(photo.crop(box)), abs=1e-5)
    assert found.score == pytest.approx(small.score(photo), abs=1e-5)
    assert len(np.unique(found.values.round(3))) > 5, "windows that all score alike would prove nothing"


def test_batches_change_nothing(small, photo):
    whole = small.map(photo)
    small.budget = Budget(2, 1)
    try:
        single = small.map(photo)
    finally:
        small._budget = None
    assert single.values == pytest.approx(whole.values, abs=1e-5)


def test_windows_fill_batches(bright):
    bright.budget = Budget(8, 1000)
    bright.map(dark_corner(), window=32, stride=32)
    assert bright.backend.batches == [8, 5]  # the whole picture and twelve windows


def test_every_kind_of_input_gives_the_same_map(small, photo):
    array = np.array(photo)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    expected = small.map(photo).values
    for image in (array, tensor, tensor.float() / 255, (tensor.float() / 255).requires_grad_()):
        assert small.map(image).values == pytest.approx(expected, abs=1e-5)
    assert small.map(str(PHOTO)).source == str(PHOTO)


def test_orientation_is_applied_to_windows_once(bright, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees clockwise
    path = tmp_path / "turned.png"
    Image.fromarray(dark_corner()).save(path, exif=exif)
    turned, stored = bright.map(path), bright.map(path, exif=False)
    assert turned.size == (96, 128)
    assert stored.size == (128, 96)
    assert turned.worst == Box(0, 0, 32, 32)  # the dark quadrant is now the upper left one
    assert np.array_equal(np.rot90(stored.values, -1), turned.values)


def test_the_dark_quadrant_is_found(bright):
    found = bright.map(dark_corner())
    pixels = found.resized()
    quadrants = {(y, x): pixels[48 * y : 48 * y + 48, 64 * x : 64 * x + 64].mean() for y in (0, 1) for x in (0, 1)}
    assert min(quadrants, key=quadrants.get) == (1, 0)
    assert found.worst.right <= 64
    assert found.worst.top >= 48
    assert found.worst_value == found.values.min() < 3 < found.values.max()


def test_a_small_picture_is_one_window_and_scored_once(bright):
    found = bright.map(dark_corner((20, 10)))
    assert found.shape == (1, 1)
    assert found.worst == Box(0, 0, 20, 10)
    assert float(found.values[0, 0]) == pytest.approx(float(found.score))
    assert bright.backend.batches == [1]


def test_a_single_pixel_and_a_thin_line_have_maps(small):
    for size in ((1, 1), (1, 70), (70, 1)):
        found = small.map(np.zeros((*size, 3), dtype=np.uint8))
        assert found.resized().shape == size
        assert found.overlay().mode == "RGB"


def test_the_note_of_a_file_stays_with_the_whole_score(bright, tmp_path):
    frames = [Image.fromarray(dark_corner()), Image.new("RGB", (128, 96))]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert "first of 2 frames" in bright.map(tmp_path / "two.gif").score.note


# ---- saliency


def test_saliency_is_the_size_of_the_gradient_summed_over_windows(small, photo):
    x = (torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255).requires_grad_()
    small(x).sum().backward()
    found = small.map(photo, method="saliency", window=16, stride=16)
    pixels = x.grad[0].abs().sum(0).numpy() / 255
    for box, value in zip(found.windows.boxes(), found.values.flat, strict=True):
        assert value == pytest.approx(pixels[box.top : box.bottom, box.left : box.right].sum(), rel=1e-3)
    assert np.isfinite(found.values).all()
    assert (found.values > 0).all()
    assert found.worst_value == found.values.max()
    assert found.score == pytest.approx(small.score(photo), abs=1e-5)


def test_saliency_has_the_unit_that_is_said(bright):
    """All pixels one grey level brighter: the score moves by the sum over all windows."""
    pixels = dark_corner()
    found = bright.map(pixels, method="saliency", window=32, stride=32)
    moved = bright.score(pixels + 1) - bright.score(pixels)
    assert found.values.sum() == pytest.approx(moved, rel=0.02)


def test_saliency_does_not_depend_on_the_callers_context(small, photo):
    expected = small.map(photo, method="saliency").values
    for context in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with context:
            assert small.map(photo, method="saliency").values == pytest.approx(expected, rel=1e-3)
    assert all(parameter.grad is None for parameter in small.backend.model.parameters())


def test_saliency_without_a_gradient_is_one_clear_error(bright, monkeypatch):
    monkeypatch.setattr(Brightness, "differentiable", False)
    with pytest.raises(BackendError, match="`method`: got 'saliency', expected a backend with a gradient, not bright"):
        bright.map(dark_corner(), method="saliency")
    assert bright.map(dark_corner()).shape == (5, 7)


def test_a_gradient_that_is_not_finite_is_an_error(bright, monkeypatch):
    monkeypatch.setattr(torch.autograd, "grad", lambda outputs, inputs: (torch.full_like(inputs, torch.nan),))
    with pytest.raises(BackendError, match="a gradient that is not finite"):
        bright.map(dark_corner(), method="saliency")


# ---- any function that scores


def test_a_map_needs_a_score_function_and_no_model():
    def darkness(pictures):
        for picture in pictures:
            yield Score(1 + 4 * np.asarray(picture.pixels).mean() / 255, {})

    picture = Picture(Image.fromarray(dark_corner()), "dark.png")
    found = map_quality(picture, MapRequest(window=32, stride=32), 32, darkness, lambda _: pytest.fail("no gradient"))
    assert found.worst == Box(0, 64, 32, 96)
    assert found.worst_value == pytest.approx(1 + 4 * dark_corner()[64:, :32].mean() / 255)
    slope = map_quality(
        picture, MapRequest("saliency", 32, 32), 32, darkness, lambda one: np.ones((one.height, one.width))
    )
    assert slope.values.tolist() == np.full((3, 4), 1024).tolist()


# ---- errors


@pytest.mark.parametrize(
    ("image", "kwargs", "kind", "message"),
    [
        ([dark_corner(), dark_corner()], {}, InputError, "`image`: got <2 images>, expected one image"),
        ("no-such.png", {}, ImageError, "no-such.png"),
        (dark_corner(), {"method": "cam"}, InputError, "`method`: got 'cam', expected 'windows' or 'saliency'"),
        (dark_corner(), {"window": -1}, InputError, "`window`: got -1"),
        (dark_corner(), {"window": 16, "stride": 17}, InputError, "leaves pixels out"),
        (dark_corner(), {"stride": 4, "overlap": 4}, InputError, "not both"),
        ("no-such.png", {"stride": 0, "window": 9}, InputError, "`stride`: got 0"),  # before the picture is read
    ],
)
def test_errors(bright, image, kwargs, kind, message):
    with pytest.raises(kind, match=message):
        bright.map(image, **kwargs)


def test_a_window_that_fails_is_the_pictures_failure(bright, monkeypatch):
    monkeypatch.setattr(Brightness, "logits", lambda self, requests: [torch.full((5,), torch.nan) for _ in requests])
    with pytest.raises(QSiTError, match="not finite") as error:
        bright.map(dark_corner())
    assert error.value.index is None


# ---- the result


def test_a_map_is_an_array_that_nobody_can_write_into():
    values = np.array([[3.0, 4.0], [1.5, 3.5]])
    found = made(values=values)
    values[0, 0] = 9
    assert np.asarray(found) is found.values
    assert np.array(found).flags.writeable
    assert np.asarray(found, dtype=np.float64).dtype == np.float64
    assert float(np.mean(found)) == 3.0
    with pytest.raises(ValueError, match="read-only"):
        found.values[0, 0] = 1
    with pytest.raises(AttributeError):
        found.score = 1
    with pytest.raises(ValueError, match="needs a copy"):
        found.__array__(np.float64, copy=False)


def test_it_pickles_copies_and_compares():
    found = made()
    for other in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found)):
        assert other == found
        assert not other.values.flags.writeable
        assert np.array_equal(np.asarray(other.preview), np.asarray(found.preview))
    assert found != made(values=found.values + 1)
    assert found != made(source="b.png")
    assert found != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(found)


def test_it_says_what_it_is():
    assert repr(made()) == "QualityMap('a.png', 2x2 windows of 80x80, 1.5..4, Score(3.2000, good))"
    assert "2x2 windows (saliency) of 80x80" in repr(made(method="saliency"))
    assert (made().shape, made().size, made().worst, made().worst_value) == ((2, 2), (150, 100), (0, 20, 80, 100), 1.5)
    assert made(method="saliency").worst == Box(70, 0, 150, 80)


def test_plain_fields_are_json():
    fields = json.loads(json.dumps(made().as_dict()))
    assert fields["worst"] == {"left": 0, "top": 20, "right": 80, "bottom": 100, "value": 1.5}
    assert fields["values"] == [[3.0, 4.0], [1.5, 3.5]]
    assert (fields["tops"], fields["lefts"]) == ([0, 20], [0, 70])
    assert (fields["score"], fields["level"], fields["method"]) == (3.2, "good", "windows")


def test_values_must_fit_the_windows():
    with pytest.raises(InputError, match=r"`values`: got <array of shape \(3,\)>, expected one for each window"):
        made(values=[1, 2, 3])


@pytest.mark.parametrize("size", [(0, 5), (5,), 5, (2.0, 3), [4, 4]])
def test_a_size_is_two_whole_numbers(size):
    with pytest.raises(InputError, match="`size`"):
        made().resized(size)


def test_resized_spans_the_picture():
    found = made()
    assert found.resized().shape == (100, 150)
    assert found.resized((10, 7)).shape == (10, 7)
    assert found.resized((2, 2)).argmin() == 2  # the lower left


# ---- the drawing


def orange(image: Image.Image) -> np.ndarray:
    """How much more red than blue."""
    values = np.asarray(image).astype(int)
    return values[..., 0] - values[..., 2]


def test_the_overlay_is_orange_where_it_is_bad_and_blue_where_it_is_good():
    found = made(values=np.array([[4.5, 4.5], [1.2, 4.5]]), preview=Image.new("RGB", (600, 400), (128, 128, 128)))
    warm = orange(found.overlay())
    assert warm[350:390, 10:250].mean() > 50
    assert warm[20:150, 350:590].mean() < -50


def test_the_overlay_keeps_the_light_of_the_photograph():
    ramp = Image.linear_gradient("L").resize((600, 400)).convert("RGB")
    drawn = np.asarray(made(values=np.full((2, 2), 3.0), preview=ramp).overlay()).astype(int)[:, 300]
    assert (np.abs(np.diff(drawn, axis=-1)) <= 1).all(), "3 is grey"
    assert (np.diff(drawn[30:100, 0]) >= 0).all()


def test_limits_stretch_the_colours():
    found = made(values=np.array([[3.0, 3.2], [3.0, 3.2]]))
    assert (
        orange(found.overlay(limits=(3.0, 3.2)))[30:-30, :20].mean() > orange(found.overlay())[30:-30, :20].mean() + 50
    )
    for wrong in ((3, 3), (4, 1), (1, float("nan"))):
        with pytest.raises(InputError, match="`limits`"):
            found.overlay(limits=wrong)


def test_saliency_is_drawn_from_grey_to_orange():
    found = made(values=np.array([[0.0, 0.02], [0.0, 0.0]]), method="saliency")
    warm = orange(found.overlay())[:, :480]
    assert warm[60:150, 300:470].mean() > 40
    assert warm.min() >= -1
    assert made(values=np.zeros((2, 2)), method="saliency").overlay().mode == "RGB"


@pytest.mark.parametrize("size", [(1, 1), (2000, 10), (10, 2000), (1280, 960), (4000, 3000)])
def test_the_drawing_has_a_reasonable_size(bright, size):
    found = bright.map(np.full((size[1], size[0], 3), 99, dtype=np.uint8), window=max(size), stride=max(size))
    assert max(found.preview.size) <= 1280
    drawn = found.overlay()
    assert max(drawn.size) <= 1450
    assert min(drawn.size) >= 150
    assert np.asarray(drawn).std() > 1, "the scale is there"


def test_it_draws_without_freetype(monkeypatch):
    from PIL import features

    from qsit_metric.maps import drawing

    monkeypatch.setattr(drawing.features, "check", lambda name: False if name == "freetype2" else features.check)
    monkeypatch.setattr(drawing.ImageFont, "load_default", lambda *size: drawing.ImageFont.load_default_imagefont())
    assert made().overlay().mode == "RGB"


def test_a_map_of_two_levels_has_two_ticks():
    from qsit_metric.maps.quality_map import _ticks

    assert _ticks(made(), 1.0, 5.0) == [(1.0, "1 bad"), (5.0, "5 good")]
    assert _ticks(made(), 2.0, 3.0) == [(2.0, "2.00"), (3.0, "3.00")]
    assert _ticks(made(method="saliency"), 0.0, 0.0249) == [(0.0, "0.00"), (0.0249, "0.025")]
