"""Data the repository makes: degradations, labels, contents, rows, and the folder."""

import csv
import json
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import shared
from qsit_metric.evaluation import Question
from train.data.corruptions import CORRUPTIONS
from train.data.interpreting import Feedback, Task, build
from train.data.interpreting.feedback import facts
from train.data.rows import Refusals
from train.errors import DataError
from train.nano.data import dataset, photographs
from train.nano.data.contents import CONTENTS, SIZES, content, draw_name
from train.nano.data.dataset import Amounts, make_dataset, make_picture, rows_of, scored
from train.nano.data.distortions import convolve, disk, gaussian, line, otsu_values
from train.nano.data.kadid import (
    DISTORTIONS,
    LEVELS,
    ORDERED,
    PRISTINE,
    SCALE,
    TABLE,
    distort,
    distortion,
    drawn_mos,
    mean_mos,
    means,
    spreads,
)
from train.nano.data.photographs import PHOTOGRAPHS
from train.nano.data.pictures import (
    ABSENT,
    KINDS,
    SLIGHT,
    Degradation,
    Facts,
    MadePicture,
    Tone,
    dominant_colour,
    draw_degradations,
    wordings,
)
from train.nano.data.texts import WRITER, content_row, feedback, questions

# Strengths of level 1 and 5 in the published generator (KADIS-700k).
ENDS = {
    "gaussian_blur": (0.1, 5), "lens_blur": (1, 8), "motion_blur": (1, 10), "color_diffusion": (1, 12),
    "color_shift": (1, 12), "color_quantization": (64, 8), "color_saturation_hsv": (0.4, -0.4),
    "color_saturation_lab": (1, 9), "jpeg2000": (16, 400), "jpeg": (43, 4), "white_noise": (0.001, 0.01),
    "white_noise_color_component": (0.0001, 0.003), "impulse_noise": (0.001, 0.03),
    "multiplicative_noise": (0.001, 0.05), "denoise": (0.01, 0.15), "brighten": (0.1, 1.1), "darken": (0.05, 0.8),
    "mean_shift": (0.15, -0.15), "jitter": (0.05, 1), "non_eccentricity_patch": (20, 100), "pixelate": (0.01, 0.5),
    "quantization": (20, 7), "color_block": (2, 10), "high_sharpen": (1, 12), "contrast_change": (0.3, -0.6),
}  # fmt: skip
WORDS = wordings()
VOCABULARY = tuple(WORDS.attributes.values())
BY_NAME, SAYINGS, HIDES, PRAISED = WORDS.attributes, WORDS.degradations, WORDS.hides, WORDS.praised
ALL_KNOWLEDGE = WORDS.knowledge
TONE = Tone(0.45, 0.2, 0.4)
FACTS = Facts("object", "a cup of coffee", colour="brown", layout="square")
RNG = np.random.default_rng


@pytest.fixture(scope="module")
def photograph():
    return photographs.crop("coffee", (240, 180), RNG(3))


def grey(value=128, size=(160, 120)):
    return Image.new("RGB", size, (value,) * 3)


def away(image, kind, level, seed=1):
    changed = np.asarray(distort(image, kind, level, seed), np.float64)
    return float(np.sqrt(np.mean((changed - np.asarray(image)) ** 2)))


class TestDistortions:
    def test_kadids_own_order(self):
        assert [name for name, _ in sorted(ENDS.items(), key=lambda item: list(ENDS).index(item[0]))] == list(
            DISTORTIONS
        )
        assert set(DISTORTIONS) - set(ORDERED) == {"mean_shift", "contrast_change"}

    @pytest.mark.parametrize("kind", DISTORTIONS)
    def test_form_and_determinism(self, kind, photograph):
        before = np.asarray(photograph).copy()
        for level in (1, 2.5, 5.0):
            changed = distort(photograph, kind, level, 4)
            assert (changed.mode, changed.size) == ("RGB", photograph.size)
            assert changed == distort(photograph, kind, level, 4)
        np.testing.assert_array_equal(np.asarray(photograph), before)

    @pytest.mark.parametrize("kind", ORDERED)
    def test_damage_grows_with_level(self, kind, photograph):
        far = [away(photograph, kind, level) for level in LEVELS]
        assert all(np.diff(far) > 0), far

    @pytest.mark.parametrize(
        ("kind", "level"),
        [
            ("gaussian_blur", 1),
            ("motion_blur", 1),
            ("color_saturation_lab", 1),
            ("mean_shift", 3),
            ("contrast_change", 3),
        ],
    )
    def test_untouched(self, kind, level, photograph):
        assert np.abs(np.asarray(distort(photograph, kind, level), int) - np.asarray(photograph)).max() <= 1

    @pytest.mark.parametrize("kind", ["mean_shift", "contrast_change"])
    def test_the_two_others_damage_to_both_sides(self, kind, photograph):
        far = [away(photograph, kind, level) for level in LEVELS]
        assert far[0] > far[1] > far[2] == 0 < far[3] < far[4]
        assert far[2] < away(photograph, kind, 2.5) < far[1]

    @pytest.mark.parametrize("kind", DISTORTIONS)
    def test_strengths_run_between_the_columns(self, kind):
        one = distortion(kind)
        assert (one.strengths[0], one.strengths[4]) == ENDS[kind]
        for level in LEVELS:
            assert one.strength(level) == one.strengths[level - 1]
            assert level == 1 or one.strength(level - 1e-9) == pytest.approx(one.strengths[level - 1], abs=1e-6)
        run = [one.strength(level) for level in np.linspace(1, 5, 33)]
        assert all(np.diff(run) > 0) or all(np.diff(run) < 0)

    def test_between(self):
        assert distortion("gaussian_blur").strength(4.5) == pytest.approx(10**0.5)
        assert distortion("mean_shift").strength(1.5) == pytest.approx(0.115)

    @pytest.mark.parametrize(
        "kind", ["white_noise", "impulse_noise", "color_block", "non_eccentricity_patch", "jitter"]
    )
    def test_levels_share_their_pattern_and_seeds_differ(self, kind, photograph):
        x = np.asarray(photograph, int)
        weak, strong = (
            np.abs(np.asarray(distort(photograph, kind, level, 2), int) - x).max(axis=2) > 2 for level in (3, 5)
        )
        assert (weak & strong).sum() > 0.6 * weak.sum()
        assert distort(photograph, kind, 3, 2) != distort(photograph, kind, 3, 3)

    @given(st.sampled_from(DISTORTIONS), st.floats(1, 5), st.integers(64, 90), st.integers(64, 90), st.integers(0, 255))
    @settings(max_examples=40, deadline=None)
    def test_any_size_level_and_flat_pictures(self, kind, level, width, height, value):
        assert distort(grey(value, (width, height)), kind, level).size == (width, height)


class TestStrengths:
    """What can be measured on simple pictures."""

    @pytest.mark.parametrize(("level", "variance"), [(1, 0.001), (3, 0.003), (5, 0.01)])
    def test_white_noise(self, level, variance):
        assert (np.asarray(distort(grey(), "white_noise", level)) / 255).var() == pytest.approx(variance, rel=0.05)

    @pytest.mark.parametrize(("level", "variance"), [(2, 0.005), (5, 0.05)])
    def test_multiplicative_noise(self, level, variance):
        found = np.asarray(distort(grey(100), "multiplicative_noise", level)) / 100
        assert found.var() == pytest.approx(variance, rel=0.05)
        assert found.mean() == pytest.approx(1, abs=0.01)

    def test_noise_in_ycbcr(self):
        noise = np.asarray(distort(grey(), "white_noise_color_component", 5)) / 255
        luma = noise @ (0.299, 0.587, 0.114)
        assert luma.var() == pytest.approx(1.1644**2 * 0.003, rel=0.06)
        assert noise[..., 2].var() == pytest.approx((1.1644**2 + 2.0172**2) * 0.003, rel=0.06)

    @pytest.mark.parametrize(("level", "density"), [(3, 0.01), (5, 0.03)])
    def test_impulse_noise(self, level, density):
        found = np.asarray(distort(grey(size=(400, 300)), "impulse_noise", level))
        assert np.mean(found == 0) == pytest.approx(density / 2, rel=0.12)
        assert np.mean(found == 255) == pytest.approx(density / 2, rel=0.12)

    @pytest.mark.parametrize(("level", "added"), [(1, 0.15), (2, 0.08), (4, -0.08), (5, -0.15)])
    def test_mean_shift(self, level, added):
        np.testing.assert_allclose(np.asarray(distort(grey(), "mean_shift", level)), 128 + 255 * added, atol=0.6)

    @pytest.mark.parametrize(("kind", "level", "tone"), [("brighten", 3, 0.7), ("darken", 5, 0.1)])
    def test_the_middle_of_lab(self, kind, level, tone):
        from skimage.color import lab2rgb, rgb2lab

        middle = grey(round(float(lab2rgb([[[50.0, 0.0, 0.0]]])[0, 0, 0]) * 255))
        lightness = rgb2lab(np.asarray(distort(middle, kind, level)) / 255)[..., 0]
        np.testing.assert_allclose(lightness, 100 * tone, atol=1)

    @pytest.mark.parametrize(("level", "tone"), [(1, 0.175), (2, 0.2125), (4, 0.35), (5, 0.4)])
    def test_contrast_pins_the_generators_knots(self, level, tone):
        for value, expected in ((0.3, tone), (0.5, 0.5), (0.7, 1 - tone)):
            found = np.asarray(distort(grey(round(255 * value)), "contrast_change", level)).mean()
            assert found == pytest.approx(255 * expected, abs=1.6)

    @pytest.mark.parametrize(("level", "colours"), [(1, 64), (4, 16), (5, 8)])
    def test_colours_left(self, level, colours, photograph):
        found = np.asarray(distort(photograph, "color_quantization", level)).reshape(-1, 3)
        assert colours * 0.6 < len(np.unique(found, axis=0)) <= colours

    @pytest.mark.parametrize(("level", "values"), [(1, 20), (5, 7)])
    def test_values_left(self, level, values, photograph):
        assert len(np.unique(np.asarray(distort(photograph, "quantization", level)))) == values

    def test_otsu_is_the_best_split(self):
        """Against scikit-image's exhaustive search."""
        from skimage.filters import threshold_multiotsu

        values = RNG(1).normal((60, 120, 200), (12, 25, 9), (4000, 3)).ravel().clip(0, 255).astype(int)
        table = otsu_values(np.bincount(values, minlength=256), 3)
        found = np.flatnonzero(np.diff(table))
        np.testing.assert_allclose(found, threshold_multiotsu(values.astype(np.uint8), 3), atol=1)

    def test_saturation(self):
        red = Image.new("RGB", (64, 64), (200, 100, 100))
        assert distort(red, "color_saturation_hsv", 1).getpixel((0, 0)) == (200, 160, 160)
        assert distort(red, "color_saturation_hsv", 4).getpixel((0, 0)) == (200, 200, 200)
        assert distort(red, "color_saturation_hsv", 5).getpixel((0, 0)) == (200, 240, 240)

    @pytest.mark.parametrize(("level", "left"), [(1, 177), (5, 58)])
    def test_pixels_left(self, level, left):
        ramp = np.zeros((64, 200, 3), np.uint8)
        ramp[...] = np.arange(200)[:, np.newaxis]
        found = np.asarray(distort(Image.fromarray(ramp), "pixelate", level))
        assert len(np.unique(found)) == left

    @pytest.mark.parametrize(("level", "count"), [(1, 2), (5, 10)])
    def test_squares(self, level, count):
        changed = np.asarray(distort(grey(size=(640, 480)), "color_block", level, 9)) != 128
        assert 0.6 * count <= changed.any(axis=2).sum() / 32**2 <= count

    @pytest.mark.parametrize(("kernel", "spread"), [(gaussian(2.0), 2.0), (disk(6.0), 3.0)])
    def test_kernels(self, kernel, spread):
        steps = np.arange(len(kernel)) - len(kernel) // 2
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert np.sqrt((kernel.sum(axis=0) * steps**2).sum()) == pytest.approx(spread, rel=0.04)

    def test_lines(self):
        assert line(1, 30)[1:-1, 1:-1].sum() == pytest.approx(1)
        assert (line(1, 30) > 1e-3).sum() == 1
        assert (line(9, 0) > 0).sum(axis=1).tolist() == [0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0] or (line(9, 0) > 0).any(
            0
        ).sum() == 9
        np.testing.assert_allclose(line(7, 90), line(7, 0).T, atol=1e-6)

    def test_convolution_is_scipys(self):
        from scipy.ndimage import convolve as direct

        x, kernel = RNG(0).random((40, 57, 2)).astype(np.float32), RNG(1).random((7, 7)).astype(np.float32)
        kernel /= kernel.sum()
        expected = np.stack([direct(x[..., c], kernel, mode="nearest") for c in range(2)], axis=2)
        np.testing.assert_allclose(convolve(x, kernel), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((grey(), "blur", 1), "`kind`: got 'blur', expected one of gaussian_blur, .*contrast_change"),
        ((grey(), "jpeg", 0.99), "`level`: got 0.99, expected a number from 1 to 5"),
        ((grey(), "jpeg", 5.01), "`level`: got 5.01"),
        ((grey(), "jpeg", float("nan")), "`level`: got nan"),
        ((grey(), "jpeg", True), "`level`: got True"),
        ((grey(), "jpeg", 1, -1), "`seed`: got -1, expected a whole number of 0 or more"),
        ((grey(size=(100, 63)), "jpeg", 1), "`image`: got <100x63 pixels>, expected sides of 64 pixels or more"),
        ((Image.new("L", (80, 80)), "jpeg", 1), "`image`: got <mode L>, expected mode RGB"),
        ((np.zeros((80, 80, 3), np.uint8), "jpeg", 1), "`image`: got <ndarray>, expected a PIL picture"),
    ],
)
def test_distort_errors(arguments, message):
    with pytest.raises(DataError, match=message):
        distort(*arguments)


class TestLabels:
    def test_numbers_are_kadids(self):
        with (shared("labels") / "kadid_mean_mos.csv").open() as file:
            for row in csv.DictReader(file):
                assert mean_mos(row["distortion"], int(row["level"])) == float(row["mean_mos"])
                assert spreads()[row["distortion"]][int(row["level"]) - 1] == float(row["std_mos"])

    def test_source_is_named(self):
        assert "KADID-10k (H. Lin, V. Hosu, D. Saupe, QoMEX 2019)" in TABLE.read_text().splitlines()[0]
        assert [len(means()[kind]) for kind in DISTORTIONS] == [5] * 25

    def test_levels(self):
        """17/28/27/28/25 of the 125 means are bad..excellent."""
        found = Counter(SCALE.level(mos) for kind in DISTORTIONS for mos in means()[kind])
        assert [found[level] for level in ("bad", "poor", "fair", "good", "excellent")] == [17, 28, 27, 28, 25]

    def test_between_and_pristine(self):
        assert mean_mos(None) == PRISTINE == 4.61
        assert mean_mos("gaussian_blur", 3.25) == pytest.approx(0.75 * 2.9111 + 0.25 * 1.873)
        with pytest.raises(DataError, match="`kind`: got 'fog'"):
            mean_mos("fog", 1)
        with pytest.raises(DataError, match="`level`: got 6"):
            mean_mos("jpeg", 6)

    @pytest.mark.parametrize(
        ("kind", "level", "mean", "spread"),
        [(None, 1, 4.61, 0.1296), ("jpeg2000", 4, 2.4448, 0.6798), ("jpeg", 2.5, (4.2456 + 3.8658) / 2, (0.228 + 0.3058) / 2)],
    )  # fmt: skip
    def test_single_scores_spread_around_the_mean(self, kind, level, mean, spread):
        rng = RNG(5)
        drawn = [drawn_mos(kind, level, rng) for _ in range(3000)]
        assert np.mean(drawn) == pytest.approx(mean, abs=4 * spread / 3000**0.5)
        assert np.std(drawn) == pytest.approx(spread, rel=0.06)
        assert SCALE.low <= min(drawn) < max(drawn) <= SCALE.high

    def test_the_share_of_a_level_follows_the_mean(self):
        """The mean alone says "excellent" to both; single scores tell that the second is worse."""
        rng = RNG(6)
        assert [SCALE.level(mean_mos("jpeg", level)) for level in (1, 2)] == ["excellent"] * 2
        shares = [
            np.mean([SCALE.level(drawn_mos("jpeg", level, rng)) == "excellent" for _ in range(2000)])
            for level in (1, 2)
        ]
        assert 1 > shares[0] > shares[1] + 0.08

    def test_a_single_score_of_what_is_not_there(self):
        with pytest.raises(DataError, match="`kind`: got 'fog'"):
            drawn_mos("fog", 1, RNG(0))
        with pytest.raises(DataError, match="`level`: got 6"):
            drawn_mos("jpeg", 6, RNG(0))


class TestContents:
    def test_photographs_are_there_with_licence_and_size(self):
        for name, one in PHOTOGRAPHS.items():
            assert one.licence
            assert one.author
            assert photographs.load(name).size == (one.width, one.height)
            assert one.kind in KINDS

    def test_split(self):
        train, held_out = (set(photographs.names(split)) for split in ("train", "held_out"))
        assert not train & held_out
        assert train | held_out == set(PHOTOGRAPHS)
        assert len(held_out) >= 2
        for split, other in (("train", held_out), ("held_out", train)):
            rng = RNG(0)
            drawn = {draw_name(rng, SIZES[n % len(SIZES)], split) for n in range(600)}
            assert not drawn & other
        with pytest.raises(DataError, match="`content`: got 'rocket', expected a photograph of the split 'train'"):
            content("rocket", (384, 256), RNG(0))

    @pytest.mark.parametrize("name", CONTENTS)
    def test_equal_generators_give_equal_pictures(self, name):
        split = PHOTOGRAPHS[name].split if name in PHOTOGRAPHS else "train"
        one, again, other = (content(name, (384, 256), RNG(seed), split) for seed in (1, 1, 2))
        assert one.image == again.image != other.image
        assert one.facts == again.facts
        assert (one.image.size, one.image.mode) == ((384, 256), "RGB")
        assert one.facts.layout == "wider than high"
        assert np.asarray(one.image).std() > 3

    def test_nothing_is_enlarged(self):
        with pytest.raises(DataError, match="`size`: .*451x300 pixels at most for chelsea, which is not enlarged"):
            content("chelsea", (512, 384), RNG(0))
        assert "chelsea" not in photographs.names("train", (512, 384))
        assert photographs.fits(PHOTOGRAPHS["hubble"], (600, 800)) > photographs.fits(PHOTOGRAPHS["rocket"], (427, 640))

    def test_photographs_without_colour_get_one(self):
        assert np.ptp(np.asarray(photographs.crop("camera", (384, 256), RNG(0)), int), axis=2).max() > 10

    def test_shapes_are_where_and_as_stated(self):
        made = content("shapes", (512, 384), RNG(5))
        assert {made.facts.shape, made.facts.shape_colour, made.facts.count, made.facts.place} <= set(
            made.facts.subject.replace("disks", "disk").split()
        ) | {made.facts.shape, made.facts.place}
        assert made.facts.subject.startswith(f"{made.facts.count} {made.facts.shape_colour} {made.facts.shape}")

    @pytest.mark.parametrize(
        ("rgb", "name"),
        [((20, 60, 200), "blue"), ((240, 240, 240), "white"), ((120, 70, 30), "brown"), ((30, 140, 40), "green")],
    )
    def test_dominant_colour(self, rgb, name):
        assert dominant_colour(Image.new("RGB", (90, 60), rgb)) == name
        half = Image.new("RGB", (90, 60), rgb)
        half.paste((255, 220, 20), (0, 0, 45, 60))
        assert dominant_colour(half) == ""

    @pytest.mark.parametrize(
        ("name", "size", "message"),
        [
            ("moon", (512, 384), "`content`: got 'moon', expected one of astronaut"),
            ("noise", (300, 200), "`size`: .*a long side of 384 to 640"),
            ("noise", (700, 400), "`size`: "),
            ("noise", (400, 100), "`size`: "),
        ],
    )
    def test_errors(self, name, size, message):
        with pytest.raises(DataError, match=message):
            content(name, size, RNG(0))


def shot(*degradations, number=0):
    return MadePicture(f"{number}.png", "coffee", FACTS, TONE, degradations)


EVERY = [Degradation(kind, float(level)) for kind in DISTORTIONS for level in LEVELS]
EVERY += [Degradation(kind, float(level), True) for kind in CORRUPTIONS for level in LEVELS]


class TestRows:
    def test_only_single_degradations_have_a_score(self):
        jpeg = Degradation("jpeg", 3.0)
        assert scored(shot(jpeg)).turns[0][1] == "The quality of the image is good."
        assert scored(shot(jpeg)).id == "0.png->3.8658"
        assert scored(shot()).mos == 4.61
        for one in (shot(jpeg, Degradation("brighten", 4.0)), shot(Degradation("fog", 1.0, True))):
            with pytest.raises(DataError, match="expected a picture with a score"):
                scored(one)

    @pytest.mark.parametrize("one", EVERY, ids=lambda one: f"{one.kind}{'-c' * one.corruption}-{one.level:.0f}")
    def test_feedback_says_what_was_done_and_nothing_else(self, one):
        """Read back by the D2 builder's own reader: the attribute at its step, causes without facts of their own."""
        for seed in range(12):
            said = feedback(shot(one), RNG(seed))
            found = {fact.attribute.name: fact.index for fact in facts(said, VOCABULARY)}
            named = {name for name, _ in said.attributes if name} | {"quality"}
            assert set(found) <= named
            attribute, step = BY_NAME[one.wording.attribute], found.get(one.wording.attribute)
            if one.grade == ABSENT:
                assert step == (1 if attribute.excluding else 2)
            elif one.grade == SLIGHT:
                assert step == (None if attribute.excluding else 1)
            else:
                assert step in ((0, 2) if attribute.excluding else (0,))
            others = set(found) - {one.wording.attribute, "quality"}
            hidden = {one.family, *HIDES[one.family]} if one.grade else {one.family}
            assert all(BY_NAME[name].family not in hidden for name in others)
            assert all(found[name] == (1 if BY_NAME[name].excluding else 2) for name in others)
            assert ("quality" in found) == (not one.corruption)

    def test_conclusion_has_the_level(self):
        for level, word in ((1.0, "excellent"), (2.9, "fair"), (5.0, "bad")):
            assert word in feedback(shot(Degradation("gaussian_blur", level)), RNG(0)).conclusion

    def test_every_degradation_has_words_and_knowledge(self):
        assert (
            {one.wording.attribute for one in EVERY}
            == set(PRAISED)
            == {wording.attribute for wording in SAYINGS.values()}
        )
        problems = {step.problem for one in VOCABULARY for step in one.steps if step.problem}
        assert problems <= set(ALL_KNOWLEDGE)
        assert {BY_NAME[wording.attribute].family for wording in SAYINGS.values()} == set(HIDES)

    @pytest.mark.parametrize("topic", ["causes", "advice", "tools", "consumers", "other"])
    def test_conversations_know_all_problems(self, topic):
        for kind in ("color_shift", "color_block", "jitter", "jpeg"):
            said = feedback(shot(Degradation(kind, 5.0)), RNG(1))
            [[draft]] = WRITER.write([Task(said, "conversation", topic)], Refusals())
            assert "no clear technical distortion" not in draft.answer
            assert draft.turns[-1][1] == said.conclusion
            if topic in ("causes", "advice", "tools"):
                known = getattr(
                    ALL_KNOWLEDGE[next(f.step.problem for f in facts(said, VOCABULARY) if f.step.problem)], topic
                )
                assert any(text in draft.answer for text in known)

    def test_d2_kinds_and_balance(self):
        rng = RNG(0)
        shots = [shot(*draw_degradations(rng, 0.06, 0.2, 0.15), number=n) for n in range(300)]
        rows = build([feedback(one, rng) for one in shots], WRITER, seed=0)
        kinds = Counter(row.id.split("/")[0] for row in rows)
        assert {"pathway", "yes_no", "what", "how", "choice-what", "choice-how", "choice-yes_no"} <= set(kinds)
        assert sum(row.turns[0][1] == "Yes" for row in rows) == sum(row.turns[0][1] == "No" for row in rows)
        assert 0.5 < kinds["what"] / kinds["how"] <= 1
        pairs = [one for one in shots if len(one.degradations) == 2]
        assert pairs
        assert all(one.mos is None and one.degradations[0].family != one.degradations[1].family for one in pairs)

    def test_questions_are_balanced(self):
        rng = RNG(1)
        shots = [shot(*draw_degradations(rng, 0.06, 0.2, 0.15), number=n) for n in range(260)]
        found = questions(shots, 120, 7)
        assert found == questions(shots, 120, 7)
        assert len({one.image for one in found}) == len(found) == 120
        assert Counter(one.type for one in found) == {"yes-no": 40, "what": 40, "how": 40}
        assert Counter(one.choices[one.answer] for one in found if one.type == "yes-no") == {"Yes": 20, "No": 20}
        for kind, count in (("yes-no", 2), ("what", 4), ("how", 3)):
            places = Counter(one.answer for one in found if one.type == kind and len(one.choices) == count)
            assert max(places.values()) - min(places.values()) <= 1
        answers = Counter(one.choices[one.answer] for one in found if one.type == "what")
        assert max(answers.values()) <= 5
        assert all(isinstance(one, Question) for one in found)
        with pytest.raises(DataError, match="`shots`: got <20 pictures>, expected more of them for 120 questions"):
            questions(shots[:20], 120, 7)

    def test_content_rows(self):
        rows = [content_row(shot(number=n), n, RNG(n)) for n in range(300)]
        turns = [turn for row in rows for turn in row.turns]
        closed = [turn for turn in turns if turn[1] in ("Yes.", "No.") and not re.search("writing|text|words", turn[0])]
        for question, answer in closed:
            true = any(fact in question for fact in ("a cup of coffee", "brown", "square", "an object"))
            assert true == (answer == "Yes."), question
        assert len(closed) > 100
        assert 0.4 < sum(answer == "Yes." for _, answer in closed) / len(closed) < 0.6
        assert any("brown" in answer.casefold() for _, answer in turns)
        assert any("cup of coffee" in answer for _, answer in turns)
        assert not any("How many shapes" in question or "heading" in question for question, _ in turns)
        assert any("\nA. " in question for question, _ in turns)


SMALL = Amounts(d1=8, d2=12, d3=6, rounds=7, scoring=6, questions=6)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, make_dataset(folder, SMALL, 1, 1, quiet=True)


def quick(name, number, seed, form="png", *, small=False):
    """A picture of one colour that `make_picture` might have made."""
    degradations = dataset._drawn(name, RNG([seed, dataset._SETS.index(name), number]), DISTORTIONS)
    path = f"{name}/0000/{number:07d}.{form}"
    return MadePicture(path, "coffee", FACTS, TONE, degradations), grey(number % 256, (8, 8))


class TestMaking:
    def test_folder(self, made):
        folder, data = made
        data.check_images()
        assert tuple(data.counts)[0::2] == (8, 6)
        assert 12 + 7 <= data.counts.d2 <= 2 * 12 + 7
        rounds = [row for row in data.rows("d2") if row.id.startswith("round")]
        assert Counter(row.image.split("/")[0] for row in rounds) == {"d1": 7, "d2": 12}
        assert all(1 <= len(row.turns) <= 9 for row in rounds)
        assert len({row.image for row in rounds}) == len(rounds)
        asked = [turn for row in rounds for turn in row.turns]
        assert not any("\nA. " in question for question, _ in asked)
        answers = Counter(answer for _, answer in asked)
        assert min(answers["Yes"], answers["No"]) > 0
        assert len(answers) > 4  # and those that name something
        assert (len(data.val_scoring), len(data.val_questions)) == (6, 6)
        assert data.record["how"] == {"seed": 1, "form": "png", **asdict(SMALL)}
        with Image.open(folder / "images" / data.rows("d1")[3].image) as image:
            assert image.convert("RGB") == make_picture("d1", 3, 1)[1]
        shots = [make_picture("d1", number, 1)[0] for number in range(8)]
        assert [row.image for row in data.rows("d1")] == [shot.image for shot in shots]
        assert all(row.mos != shot.mos for row, shot in zip(data.rows("d1"), shots, strict=True))
        assert all(SCALE.level(row.mos) in row.turns[0][1] for row in data.rows("d1"))
        held = [make_picture("scoring", number, 1)[0] for number in range(6)]
        assert [row.mos for row in data.val_scoring] == [shot.mos for shot in held], "judged by the mean"

    def test_held_out_photographs_are_not_trained_on(self, made):
        folder, _ = made
        shots = [json.loads(line) for path in (folder / "shots").iterdir() for line in path.read_text().splitlines()]
        assert any(one["name"] in PHOTOGRAPHS for one in shots)
        for one in shots:
            trained = not one["image"].startswith(("scoring", "questions"))
            if one["name"] in PHOTOGRAPHS:
                assert PHOTOGRAPHS[one["name"]].split == ("train" if trained else "held_out")

    def test_a_cut_run_goes_on(self, tmp_path, monkeypatch):
        """Portions of another size and an interruption change nothing; what is there is not made again."""
        monkeypatch.setattr(dataset, "make_picture", quick)
        whole = make_dataset(tmp_path / "whole", SMALL, 1, 1, quiet=True)
        monkeypatch.setattr(dataset, "PORTION", 5)
        taken = []

        def cut(portion, number):
            taken.append((portion.name, number))
            if len(taken) == 13:
                raise KeyboardInterrupt
            return take(portion, number)

        take = dataset._saved
        monkeypatch.setattr(dataset, "_saved", cut)
        with pytest.raises(KeyboardInterrupt):
            make_dataset(tmp_path / "cut", SMALL, 1, 1, quiet=True)
        assert len(list((tmp_path / "cut" / "shots").iterdir())) == 2
        assert not (tmp_path / "cut" / "data").exists()
        again = make_dataset(tmp_path / "cut", SMALL, 1, 1, quiet=True)
        assert len(taken) - 13 == sum(SMALL.pictures(name) for name in dataset._SETS) - 8
        assert again.digest == whole.digest
        count = len(taken)
        assert make_dataset(tmp_path / "cut", SMALL, 1, 1, quiet=True).digest == again.digest
        assert len(taken) == count

    def test_a_damaged_record_is_named(self, tmp_path, made):
        (tmp_path / "shots").mkdir()
        for path in (made[0] / "shots").iterdir():
            (tmp_path / "shots" / path.name).write_text(path.read_text())
        (tmp_path / "shots" / "d3-0000000.jsonl").write_text("")
        with pytest.raises(DataError, match="d3-0000000.jsonl.*expected 6 lines.*Remove it"):
            make_dataset(tmp_path, SMALL, 1, 1, quiet=True)

    def test_webp_is_lossless(self, tmp_path, monkeypatch):
        monkeypatch.setattr(dataset, "make_picture", quick)
        portions = list(dataset._portions(tmp_path, SMALL, 1, "webp"))
        (tmp_path / "shots").mkdir()
        assert sum(dataset._done(portions, 1)) == sum(SMALL.pictures(name) for name in dataset._SETS)
        with Image.open(tmp_path / "images" / "d1" / "0000" / "0000003.webp") as image:
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(quick("d1", 3, 1)[1]))

    def test_rows_do_not_need_pictures(self):
        shots = {name: [quick(name, n, 0)[0] for n in range(SMALL.pictures(name))] for name in dataset._SETS}
        sets, validation = rows_of(shots, SMALL, 0)
        assert (len(sets["d1"]), len(sets["d3"]), len(validation.questions)) == (8, 6, 6)

    def test_three_rows_and_four_rounds_for_four_pictures(self):
        amounts = replace(SMALL, d2=100)
        shots = {name: [quick(name, n, 0)[0] for n in range(amounts.pictures(name))] for name in dataset._SETS}
        kinds = Counter(row.id.split("/")[0].split("-")[0] for row in rows_of(shots, amounts, 0)[0]["d2"])
        assert (kinds["pathway"], kinds["conversation"], kinds["round"]) == (20, 10, 100 + 7)
        assert kinds["what"] + kinds["how"] == 15
        assert kinds["yes_no"] == 14  # as many yes as no
        assert 13 <= kinds["choice"] <= 15
        assert sum(kinds.values()) == 20 + 10 + 107 + 15 + 14 + kinds["choice"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"seed": 2}, r"`folder`: .*expected data made as now \(seed 2\), but it has seed 1. Name another folder"),
            ({"seed": -1}, "`seed`: got -1"),
            ({"workers": -1}, "`workers`: got -1"),
            ({"form": "jpg"}, "`form`: got 'jpg', expected 'png' or 'webp'"),
            ({"form": "webp"}, "`folder`: "),
        ],
    )
    def test_errors(self, made, changes, message):
        with pytest.raises(DataError, match=message):
            make_dataset(made[0], SMALL, **{"seed": 1, "workers": 1, "quiet": True, **changes})

    def test_other_errors(self):
        with pytest.raises(DataError, match="`amounts`: .*6 or more of each"):
            Amounts(d1=5)
        with pytest.raises(DataError, match="`rounds`: got 9, expected no more than pictures of D1, 8"):
            Amounts(d1=8, rounds=9)
        with pytest.raises(DataError, match="`set`: got 'd4'"):
            make_picture("d4", 0, 0)

    def test_shots_survive_json(self):
        one = make_picture("questions", 1, 0)[0]
        assert MadePicture.from_dict(json.loads(json.dumps(one.as_dict()))) == one
        assert isinstance(feedback(one, RNG(0)), Feedback)
        assert Path(one.image).suffix == ".png"
