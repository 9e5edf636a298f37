"""Equal seeds give equal data from release to release: what is made here was computed once and is held against that.

Texts are compared to the letter. Pictures are compared by the means of nine regions, since the last bit of a filter
depends on the processor and on the releases of numpy, scipy and Pillow.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from PIL import Image

from qsit_metric.evaluation.manifest import Item
from train.data.corruptions import CORRUPTIONS, corrupt
from train.data.interpreting import KINDS, Feedback, TemplateWriter, balanced_sample, build
from train.data.rows import to_jsonl
from train.data.scoring import Scale, hold_out, scoring_row
from train.data.sources import take
from train.mixture import Sizes
from train.nano.data.dataset import Amounts, make_picture, rows_of
from train.nano.data.kadid import DISTORTIONS, distort
from train.nano.data.pictures import Facts, MadePicture, Tone, draw_degradation, draw_degradations
from train.sweep import plan_step1, plan_step2


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def regions(image: Image.Image) -> list[int]:
    """Mean of each channel of three by three regions, rounded."""
    return np.asarray(image.resize((3, 3), Image.Resampling.BOX)).ravel().tolist()


def _shots(name: str, count: int) -> list[MadePicture]:
    rng = np.random.default_rng([7, len(name)])
    facts = (
        Facts("shapes", "two red disks", "grey", shape="disk", shape_colour="red", count="two", place="left"),
        Facts("writing", 'the word "river"', writing="yes", word="river", place="top", layout="square"),
        Facts("animal", "a cat", "brown", layout="wider than high"),
    )
    found = []
    for number in range(count):
        scored = (draw_degradation(rng),) if number % 4 else ()
        made = scored if name in ("d1", "scoring") else draw_degradations(rng, 0.1, 0.2, 0.2)
        tone = Tone(0.35 + 0.01 * number, 0.2, 0.3 + 0.02 * (number % 15))
        found.append(MadePicture(f"{name}/{number}.png", "chelsea", facts[number % 3], tone, made))
    return found


def test_rows_of_the_embedded_model() -> None:
    amounts = Amounts(30, 30, 30, 20, 10, 24)
    shots = {name: _shots(name, amounts.pictures(name)) for name in ("d1", "d2", "d3", "scoring", "questions")}
    sets, validation = rows_of(shots, amounts, 3)
    found = {name: digest(to_jsonl(rows)) for name, rows in sets.items()}
    found |= {"scoring": digest(to_jsonl(validation.scoring)), "questions": digest(repr(validation.questions))}
    assert found == ROWS


def test_pictures_of_the_embedded_model() -> None:
    for (name, number), expected in PICTURES.items():
        shot, image = make_picture(name, number, seed=3)
        assert image.size == expected[0]
        assert regions(image) == pytest.approx(expected[1], abs=2), (name, number, shot.name)
    for (name, number), expected in SMALL_PICTURES.items():
        shot, image = make_picture(name, number, seed=7, small=True)
        assert image.size == expected[0]
        assert regions(image) == pytest.approx(expected[1], abs=2), (name, number, shot.name)


def test_degradations() -> None:
    grid = np.mgrid[0:96, 0:128].astype(np.float64)
    wave = np.stack([128 + 90 * np.sin(grid[1] / (5 + c)) * np.cos(grid[0] / (9 - c)) for c in range(3)], axis=2)
    image = Image.fromarray(np.rint(wave + np.array((20, 0, -20))).clip(0, 255).astype(np.uint8))
    for changed, table in (
        ({kind: distort(image, kind, 3.5, seed=2) for kind in DISTORTIONS}, DISTORTED),
        ({kind: corrupt(image, kind, 3, seed=2) for kind in CORRUPTIONS}, CORRUPTED),
    ):
        assert set(changed) == set(table)
        for kind, one in changed.items():
            far = np.abs(np.asarray(one, np.float64) - np.asarray(image)).mean()
            assert far == pytest.approx(table[kind], abs=0.35), kind


def test_rows_from_feedback() -> None:
    draw_one = random.Random(4)
    texts = (
        "severe noise", "blurry", "The background is blurry but the subject is sharp.", "too dark", "vivid",
        "slightly blocky", "well composed", "washed out colours", "low contrast", "out of focus", "foggy",
    )  # fmt: skip
    names = ("", "noise", "sharpness", "exposure", "colour", "compression", "composition")
    said = [
        Feedback(
            f"{number}.jpg",
            tuple((draw_one.choice(names), draw_one.choice(texts)) for _ in range(draw_one.randint(1, 4))),
            f"Thus, the quality of the image is {draw_one.choice(('bad', 'fair', 'excellent'))}.",
        )
        for number in range(60)
    ]
    assert digest(to_jsonl(build(said, TemplateWriter(), KINDS, 7))) == BUILT[0]
    limits = {"yes_no": 20, "choice": 33, "pathway": 10, "what_how": 12, "conversation": 9}
    assert digest(to_jsonl(build(said, TemplateWriter(), KINDS, 7, limits=limits))) == BUILT[1]


def test_samples_splits_and_plans() -> None:
    assert take(range(1000), "random:0.5%", [1, 2, 3]) == TAKEN
    rows = [scoring_row(Item(f"k/{i}.jpg", 1 + i / 60, f"{i}"), Scale(1, 5), "k") for i in range(240)]
    assert digest(to_jsonl(hold_out(rows, 0.1, 3).validation)) == HELD_OUT
    scores = [float(number * number % 101) for number in range(300)]
    assert digest(repr(balanced_sample(range(300), 60, scores, (0, 100), seed=2).items)) == BALANCED
    ratios = [0.5, 1, 2, 3, 5, 10]
    plans = plan_step1(Sizes(160, 1500, 1500)), plan_step2(Sizes(160, 1500, 1500), 2.42, ratios=ratios)
    assert [plan.digest[:16] for plan in plans] == PLANS


ROWS = {
    'd1': 'ae6cff89c7e2967b',
    'd2': '5c69d2f4d235a944',
    'd3': '0466b4e174683d84',
    'scoring': '885ba4be97eff43c',
    'questions': '970d145df36cb1a4',
}  # fmt: skip
PICTURES = {
    ('d1', 0): ((600, 400), [107, 110, 102, 101, 107, 96, 89, 93, 72, 69, 70, 65, 105, 107, 99, 121, 125, 103, 59, 58, 54, 48, 59, 46, 125, 135, 114]),
    ('d1', 3): ((600, 400), [11, 30, 5, 144, 48, 56, 7, 11, 3, 13, 26, 6, 235, 40, 90, 45, 53, 17, 1, 24, 1, 70, 44, 33, 4, 23, 3]),
    ('d1', 6): ((360, 480), [28, 74, 16, 99, 134, 89, 40, 77, 28, 119, 99, 113, 162, 73, 183, 138, 96, 135, 71, 88, 60, 105, 92, 100, 65, 90, 51]),
    ('d2', 1): ((600, 400), [14, 16, 15, 17, 17, 17, 23, 22, 23, 20, 21, 21, 15, 16, 16, 14, 15, 15, 19, 19, 19, 20, 21, 21, 14, 15, 15]),
    ('d2', 5): ((480, 320), [126, 125, 137, 104, 96, 112, 146, 125, 145, 97, 94, 102, 116, 115, 118, 115, 125, 128, 82, 78, 87, 140, 135, 150, 118, 116, 125]),
    ('d2', 8): ((384, 512), [96, 146, 186, 118, 162, 197, 92, 143, 184, 103, 129, 103, 129, 159, 135, 109, 126, 113, 112, 71, 67, 107, 72, 77, 94, 65, 63]),
    ('d3', 2): ((600, 400), [129, 93, 105, 101, 76, 86, 77, 62, 69, 151, 106, 119, 124, 89, 101, 98, 74, 84, 175, 120, 136, 147, 104, 117, 121, 88, 99]),
    ('d3', 4): ((384, 512), [99, 111, 134, 109, 129, 147, 137, 146, 152, 101, 103, 125, 175, 179, 75, 115, 133, 149, 107, 89, 109, 100, 105, 126, 99, 115, 138]),
    ('scoring', 1): ((400, 400), [232, 248, 210, 231, 247, 209, 231, 248, 210, 231, 247, 209, 229, 246, 208, 231, 247, 209, 230, 247, 209, 231, 248, 210, 229, 246, 208]),
    ('scoring', 3): ((360, 480), [83, 37, 91, 114, 61, 138, 131, 80, 162, 109, 57, 129, 130, 77, 162, 135, 99, 157, 129, 74, 160, 140, 100, 166, 136, 117, 147]),
    ('questions', 2): ((448, 300), [147, 127, 138, 146, 126, 137, 148, 128, 139, 153, 132, 143, 151, 131, 142, 150, 130, 141, 151, 131, 142, 153, 133, 143, 149, 129, 140]),
}  # fmt: skip
SMALL_PICTURES = {
    ('d1', 0): ((96, 64), [88, 104, 85, 65, 96, 119, 89, 111, 87, 89, 109, 86, 90, 112, 90, 91, 116, 89, 90, 113, 88, 91, 117, 89, 92, 121, 92]),
    ('d1', 3): ((96, 72), [128, 116, 80, 129, 117, 56, 119, 106, 55, 125, 111, 61, 119, 112, 36, 114, 100, 30, 158, 155, 147, 139, 136, 109, 104, 94, 62]),
    ('d2', 5): ((72, 96), [155, 80, 21, 61, 48, 38, 63, 18, 37, 86, 66, 68, 62, 44, 49, 146, 69, 83, 154, 144, 158, 151, 171, 185, 198, 139, 82]),
    ('d3', 2): ((96, 96), [124, 156, 222, 79, 122, 214, 125, 157, 223, 117, 134, 145, 106, 130, 141, 112, 135, 129, 90, 76, 34, 116, 101, 71, 104, 85, 40]),
    ('scoring', 1): ((96, 96), [94, 67, 69, 79, 55, 97, 123, 99, 109, 104, 60, 54, 117, 75, 75, 128, 85, 94, 127, 80, 101, 79, 59, 111, 90, 67, 137]),
    ('questions', 2): ((64, 96), [117, 106, 115, 126, 114, 121, 130, 119, 126, 109, 100, 109, 119, 108, 116, 122, 112, 120, 94, 84, 95, 101, 90, 100, 97, 86, 97]),
}  # fmt: skip
DISTORTED = {
    'gaussian_blur': 1.69,
    'lens_blur': 4.92,
    'motion_blur': 1.12,
    'color_diffusion': 71.7,
    'color_shift': 4.94,
    'color_quantization': 16.01,
    'color_saturation_hsv': 41.53,
    'color_saturation_lab': 60.06,
    'jpeg2000': 5.08,
    'jpeg': 8.44,
    'white_noise': 12.67,
    'white_noise_color_component': 14.75,
    'impulse_noise': 1.87,
    'multiplicative_noise': 13.09,
    'denoise': 11.02,
    'brighten': 64.42,
    'darken': 34.57,
    'mean_shift': 10.0,
    'jitter': 5.08,
    'non_eccentricity_patch': 27.29,
    'pixelate': 3.61,
    'quantization': 5.91,
    'color_block': 33.05,
    'high_sharpen': 19.77,
    'contrast_change': 4.37,
}  # fmt: skip
CORRUPTED = {
    'gaussian_noise': 35.31,
    'shot_noise': 38.82,
    'impulse_noise': 11.3,
    'defocus_blur': 7.46,
    'glass_blur': 8.29,
    'motion_blur': 27.17,
    'zoom_blur': 18.48,
    'snow': 71.93,
    'frost': 54.96,
    'fog': 39.38,
    'brightness': 50.68,
    'contrast': 29.58,
    'elastic_transform': 10.92,
    'pixelate': 5.51,
    'jpeg_compression': 7.77,
}  # fmt: skip
BUILT = ["cc0042b3b846dd6a", "4e49c3d2b44f7b24"]
TAKEN = [110, 492, 668, 870, 960]
HELD_OUT = "2f817ed0e25699c5"
BALANCED = "27eae44e0ac2072b"
PLANS = ["4b837b4049e0b0d1", "32268c71caa76643"]
