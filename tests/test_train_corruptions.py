"""The fifteen distortions: every one on every size, stronger with severity, the same again, and the command."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from qsit_metric.errors import QSiTError
from train.commands.corrupt import LIST_NAME, corrupt_command, plan
from train.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from train.errors import DataError


def scene(height=96, width=128):
    """Edges, gradients, colours and fine texture, from formulas only."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rng = np.random.default_rng(7)
    red = 90 + 60 * np.sin(x / 9) + 25 * ((x // 7 + y // 7) % 2)
    green = 40 + 150 * y / height
    blue = np.where((x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2, 210, 70)
    noise = rng.normal(0, 6, (height, width, 1))
    return np.clip(np.stack([red, green, blue], 2) + noise, 0, 255).astype(np.uint8)


def psnr(a, b):
    return -10 * np.log10(np.mean((a.astype(float) - b.astype(float)) ** 2) / 255**2)


def ssim(a, b):
    from skimage.metrics import structural_similarity

    return structural_similarity(a, b, channel_axis=2)


def test_the_fifteen_names_in_their_usual_order():
    assert CORRUPTIONS == (
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
        "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(32, 32), (57, 33), (240, 320), (32, 400)])
def test_all_75_run_and_keep_the_size(shape):
    image = scene(*shape)
    for kind in CORRUPTIONS:
        for severity in SEVERITIES:
            changed = corrupt(image, kind, severity)
            assert changed.shape == image.shape
            assert changed.dtype == np.uint8
            assert (changed != image).any(), (kind, severity)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_distance_grows_with_severity(kind):
    """By PSNR; frost by SSIM, since its published weights (1, .4) ... (.6, .75) trade the picture's light for the ice's."""
    likeness = ssim if kind == "frost" else psnr
    image = scene()
    means = [np.mean([likeness(image, corrupt(image, kind, s, seed)) for seed in range(4)]) for s in SEVERITIES]
    assert all(mild > strong for mild, strong in pairwise(means)), means


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_deterministic_by_seed_and_the_input_is_untouched(kind):
    image = scene()
    before = image.copy()
    once = corrupt(image, kind, 3, seed=5)
    np.random.seed(1)  # noqa: NPY002  the global generator has no say
    np.testing.assert_array_equal(once, corrupt(image, kind, 3, seed=5))
    np.testing.assert_array_equal(image, before)
    drawn = kind not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
    assert drawn == bool((once != corrupt(image, kind, 3, seed=6)).any())


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_pil_picture_gives_a_pil_picture_with_the_same_values(kind):
    image = scene(40, 50)
    changed = corrupt(Image.fromarray(image), kind, 4, seed=2)
    assert isinstance(changed, Image.Image)
    assert changed.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(changed), corrupt(image, kind, 4, seed=2))


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_flat_black_and_white_pictures(kind, value):
    assert corrupt(np.full((32, 40, 3), value, np.uint8), kind, 5).shape == (32, 40, 3)


class TestParameters:
    """Figures of ImageNet-C / imagecorruptions `common` that can be measured on a flat grey picture."""

    grey = np.full((200, 200, 3), 128, np.uint8)

    @pytest.mark.parametrize(("severity", "sigma"), [(1, 0.08), (2, 0.12), (3, 0.18)])
    def test_gaussian_noise(self, severity, sigma):
        assert corrupt(self.grey, "gaussian_noise", severity).std() / 255 == pytest.approx(sigma, rel=0.02)

    @pytest.mark.parametrize(("severity", "photons"), [(1, 60), (2, 25), (3, 12)])
    def test_shot_noise(self, severity, photons):
        expected = np.sqrt(128 / 255 / photons)
        assert corrupt(self.grey, "shot_noise", severity).std() / 255 == pytest.approx(expected, rel=0.03)

    @pytest.mark.parametrize(("severity", "share"), list(enumerate((0.03, 0.06, 0.09, 0.17, 0.27), 1)))
    def test_impulse_noise(self, severity, share):
        changed = corrupt(self.grey, "impulse_noise", severity)
        assert np.mean(changed == 0) == pytest.approx(share / 2, rel=0.06)
        assert np.mean(changed == 255) == pytest.approx(share / 2, rel=0.06)

    @pytest.mark.parametrize(("severity", "added"), list(enumerate((0.1, 0.2, 0.3, 0.4, 0.5), 1)))
    def test_brightness(self, severity, added):
        changed = corrupt(self.grey, "brightness", severity)
        np.testing.assert_allclose(changed, min(255, 128 + added * 255), atol=0.5)

    @pytest.mark.parametrize(("severity", "left"), list(enumerate((0.4, 0.3, 0.2, 0.1, 0.05), 1)))
    def test_contrast(self, severity, left):
        image = scene()
        assert np.ptp(corrupt(image, "contrast", severity)[..., 1]) == pytest.approx(
            np.ptp(image[..., 1]) * left, abs=1
        )

    @pytest.mark.parametrize(("severity", "radius"), list(enumerate((3, 4, 6, 8, 10), 1)))
    def test_defocus_spreads_a_point_over_a_disk(self, severity, radius):
        image = np.zeros((81, 81, 3), np.uint8)
        image[39:42, 39:42] = 255
        lit = corrupt(image, "defocus_blur", severity)[40, :, 0] > 0
        assert radius <= (lit.sum() - 3) / 2 <= radius + 1

    @pytest.mark.parametrize("kind", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform"])
    def test_blur_and_warp_leave_a_flat_picture_as_it_is(self, kind):
        for severity in SEVERITIES:
            np.testing.assert_allclose(corrupt(self.grey, kind, severity), 128, atol=1)

    def test_pixelate_leaves_a_quarter_of_each_side(self):
        changed = corrupt(scene(64, 64), "pixelate", 5)
        blocks = changed.reshape(16, 4, 16, 4, 3)
        assert np.ptp(blocks, axis=(1, 3)).max() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((scene(), "blur", 1), "`kind`: got 'blur', expected one of gaussian_noise, .*jpeg_compression"),
        ((scene(), "fog", 0), "`severity`: got 0, expected a whole number from 1 to 5"),
        ((scene(), "fog", 6), "`severity`: got 6"),
        ((scene(), "fog", True), "`severity`: got True"),
        ((scene(), "fog", 1, -1), "`seed`: got -1, expected a whole number of 0 or more"),
        ((scene()[:31], "fog", 1), "`image`: got <128x31 pixels>, expected sides of 32 pixels or more"),
        ((scene()[..., 0], "fog", 1), r"`image`: got <uint8 array \(96, 128\)>, expected uint8 and shape \(H, W, 3\)"),
        ((scene() / 255, "fog", 1), "`image`: got <float64 array"),
        ((Image.new("L", (64, 64)), "fog", 1), "`image`: got <mode L>, expected mode RGB"),
        (("a.png", "fog", 1), "`image`: got <str>, expected a PIL picture or an array"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(DataError, match=message):
        corrupt(*arguments)


class TestCommand:
    @pytest.fixture
    def folder(self, tmp_path):
        for name in ("a.png", "sub/b.bmp", "sub/c.png"):
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(40, 48)).save(path)
        return tmp_path / "in"

    def test_one_file(self, folder, tmp_path):
        corrupt_command(folder / "a.png", tmp_path / "out.png", kind="fog", severity=2)
        [job] = plan(["a.png"], "fog", 2, 0)
        with Image.open(tmp_path / "out.png") as image:
            np.testing.assert_array_equal(np.asarray(image), corrupt(scene(40, 48), "fog", 2, job.seed))

    def test_random_on_a_folder_lists_what_was_done(self, folder, tmp_path):
        out = tmp_path / "out"
        corrupt_command(folder, out, seed=3)
        lines = [json.loads(line) for line in (out / LIST_NAME).read_text().splitlines()]
        assert [line["source"] for line in lines] == ["a.png", "sub/b.bmp", "sub/c.png"]
        assert len({line["seed"] for line in lines}) == 3
        for line in lines:
            with Image.open(out / line["image"]) as image:
                again = corrupt(scene(40, 48), line["kind"], line["severity"], line["seed"])
                np.testing.assert_array_equal(np.asarray(image), again)
        assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["a.png", "b.png", "c.png", LIST_NAME]

    def test_random_covers_all_kinds_and_severities(self):
        jobs = plan([f"{n}.jpg" for n in range(600)], "random", None, 0)
        assert {job.kind for job in jobs} == set(CORRUPTIONS)
        assert {job.severity for job in jobs} == set(SEVERITIES)
        assert {job.severity for job in plan(["a.png", "b.png"], "random", 4, 0)} == {4}

    def test_all_makes_75(self, folder, tmp_path):
        corrupt_command(folder / "a.png", tmp_path / "out", kind="all")
        assert len(list((tmp_path / "out").glob("a.*.?.png"))) == 75
        assert len(plan(["a.png"], "all", 2, 0)) == 15

    def test_never_overwrites_without_force(self, folder, tmp_path):
        out = tmp_path / "out"
        corrupt_command(folder, out, kind="contrast", severity=1)
        before = (out / "a.png").read_bytes()
        with pytest.raises(DataError, match="`OUTPUT`: .*and 3 more.*Pass --force to replace them"):
            corrupt_command(folder, out, kind="contrast", severity=5)
        assert (out / "a.png").read_bytes() == before
        corrupt_command(folder, out, kind="contrast", severity=5, force=True)
        assert (out / "a.png").read_bytes() != before

    def test_a_broken_picture_is_named_and_the_others_are_done(self, folder, tmp_path):
        (folder / "broken.jpg").write_bytes(b"no picture")
        with pytest.raises(DataError, match=r"1 row cannot be used: broken\.jpg: "):
            corrupt_command(folder, tmp_path / "out", kind="fog", severity=1)
        assert not (tmp_path / "out" / LIST_NAME).exists()
        corrupt_command(folder, tmp_path / "out", kind="fog", severity=1, force=True, drop_refused=True)
        assert len((tmp_path / "out" / LIST_NAME).read_text().splitlines()) == 3
        assert not list(tmp_path.rglob("*.part"))

    @pytest.mark.parametrize(
        ("kind", "severity", "target", "message"),
        [
            ("blur", 1, "out.png", "`kind`: got 'blur', expected all, random or one of"),
            ("fog", None, "out.png", "`severity`: got None.*Pass --severity"),
            ("fog", 1, "out.jpg", "`OUTPUT`: .*out.jpg.*expected a file in .png.*A lossy format would add"),
        ],
    )
    def test_errors(self, folder, tmp_path, kind, severity, target, message):
        with pytest.raises(DataError, match=message):
            corrupt_command(folder / "a.png", tmp_path / target, kind=kind, severity=severity)

    def test_missing_empty_small_and_clashing(self, folder, tmp_path):
        with pytest.raises(DataError, match="`INPUT`: .*a picture or a folder that exists"):
            corrupt_command(tmp_path / "nowhere", tmp_path / "out")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="`INPUT`: .*a folder with pictures"):
            corrupt_command(tmp_path / "empty", tmp_path / "out")
        with pytest.raises(DataError, match="`INPUT`: got 'a.png', expected a name that does not clash with 'a.jpg'"):
            plan(["a.jpg", "a.png"], "fog", 1, 0)
        Image.new("RGB", (20, 40)).save(tmp_path / "small.png")
        with pytest.raises(QSiTError, match="`image`: got <20x40 pixels>"):
            corrupt_command(tmp_path / "small.png", tmp_path / "out.png", kind="fog", severity=1)
