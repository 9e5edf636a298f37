"""The attributes of Sec. III-B2 with the words in which people grade them. Data, and the dataclasses that hold it.

Chosen by us: the paper's reference attribute set is not printed. The choice follows the concerns of Q-Bench
(arXiv 2309.14181): blur, noise, exposure, artefacts, colour, lightness, focus, composition.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step of an attribute's scale.

    Attributes:
        words: How people say it; the first ones are adjectives.
        asked: Adjectives that hold for all of `words`: "is the image ...?".
        problem: The distortion that it is, as a noun; "" if it is none.
    """

    words: tuple[str, ...]
    asked: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class Attribute:
    """One attribute.

    Attributes:
        name: As it is shown in reports.
        aliases: Keys under which feedback files have it.
        nouns: What a how-question asks for ("How is the ... of the image?").
        steps: Three, from one pole to the other.
        family: Attributes of one family look alike, so one is no wrong answer for another.
        excluding: Any two steps contradict each other. Otherwise the middle one is a light form of the first, and only
            the last contradicts both.
    """

    name: str
    aliases: tuple[str, ...]
    nouns: tuple[str, ...]
    steps: tuple[Step, Step, Step]
    family: str
    excluding: bool = False

    def contrasts(self, step: int) -> tuple[int, ...]:
        """The steps that are wrong where `step` is right."""
        if self.excluding:
            return tuple(other for other in range(3) if other != step)
        return (0, 1) if step == 2 else (2,)


def _graded(
    name: str, aliases: str, nouns: str, bad: str, bad_asked: str, good: str, good_asked: str, problem: str, family: str
) -> Attribute:
    """An attribute with one good end; the middle step is a light form of the bad one."""
    asked = _split(bad_asked)
    light = tuple(f"slightly {word}" for word in asked)
    steps = (Step(_split(bad), asked, problem), Step(light, light, problem), Step(_split(good), _split(good_asked)))
    return Attribute(name, _split(aliases), _split(nouns), steps, family)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


_SHARPNESS = _graded(
    "sharpness", "sharpness, clarity, blur, blurriness, clearness", "sharpness, clarity",
    "blurry, blurred, unsharp, fuzzy, not sharp, not clear, unclear, blur, lacks sharpness, lack of sharpness",
    "blurry, unsharp",
    "sharp, crisp, clear, not blurry, no blur, without blur, high clarity", "sharp, crisp", "Blur", "blur",
)  # fmt: skip
_FOCUS = _graded(
    "focus", "focus, focusing, depth of field", "focus",
    "out of focus, out-of-focus, defocused, misfocused, not in focus, unfocused, defocus, focus is off, inaccurate focus",
    "out of focus, defocused",
    "in focus, well focused, well-focused, accurate focus, correctly focused", "in focus, correctly focused",
    "Out-of-focus blur", "blur",
)  # fmt: skip
_MOTION = _graded(
    "motion", "motion, motion blur, camera shake, movement", "steadiness",
    "motion-blurred, motion blurred, motion blur, camera shake, shaky, smeared by motion",
    "smeared by motion, motion-blurred",
    "steady, no motion blur, free of motion blur, without motion blur", "free of motion blur, steady", "Motion blur", "blur",
)  # fmt: skip
_NOISE = _graded(
    "noise", "noise, noisiness, grain", "noise level, cleanness",
    "noisy, grainy, noise, grain, graininess", "noisy, grainy",
    "noise-free, free of noise, no noise, no visible noise, without noise, not noisy, no grain, clean, little noise, low noise",
    "free of noise, clean", "Noise", "noise",
)  # fmt: skip
_COMPRESSION = _graded(
    "compression", "compression, artifacts, artefacts, compression artifacts, blocking, jpeg", "compression quality",
    "blocky, blocking artifacts, compression artifacts, compression artefacts, jpeg artifacts, jpeg artefacts, "
    "block artifacts, strongly compressed, over-compressed, ringing",
    "blocky, marred by compression",
    "free of compression artifacts, artifact-free, artefact-free, no artifacts, no artefacts, no compression artifacts, "
    "without artifacts, no blocking",
    "free of compression artifacts, cleanly encoded", "Compression artifacts", "coding",
)  # fmt: skip
_PIXELATION = _graded(
    "pixelation", "pixelation, resolution, aliasing", "pixel structure, resolution",
    "pixelated, pixelation, coarse pixels, jagged, low resolution, low-resolution", "pixelated, coarse in resolution",
    "free of pixelation, no pixelation, smooth edges, high resolution, high-resolution",
    "free of pixelation, fine in resolution", "Pixelation", "coding",
)  # fmt: skip
_DETAIL = _graded(
    "detail", "detail, details, texture, textures", "detail, texture",
    "lacking in detail, lacks detail, lack of detail, loss of detail, lost details, texture is lost, few details, "
    "without detail, texture details are lost",
    "lacking in detail, poor in texture",
    "detailed, rich in detail, rich details, rich texture, fine details, fine detail, abundant details",
    "rich in detail, detailed", "Loss of detail", "blur",
)  # fmt: skip
_COLOUR = _graded(
    "colour", "colour, color, colours, colors, colorfulness, saturation, vividness", "colours",
    "dull, faded, washed-out, washed out, desaturated, colourless, colorless, monotonous colors, pale colours, pale colors",
    "dull in colour, faded",
    "vivid, vibrant, colourful, colorful, rich colors, rich colours, bright colors, bright colours, saturated",
    "vivid, rich in colour", "Faded colours", "colour",
)  # fmt: skip
_HAZE = _graded(
    "haze", "haze, fog, mist, visibility", "visibility",
    "hazy, foggy, misty, fog, haze", "hazy, veiled by haze",
    "haze-free, free of haze, free of fog, no haze, no fog, clear view", "free of haze, unveiled", "Haze", "haze",
)  # fmt: skip
_OVERLAY = _graded(
    "overlay", "overlay, frost, snow, weather, obstruction, occlusion", "visibility",
    "covered by snow or ice, falling snow, snowflakes, covered by frost, frosted over, ice crystals, frost on the lens",
    "covered by snow or ice, hidden behind snow or ice",
    "unobstructed, free of frost, free of snow, no frost, no snowflakes", "unobstructed, free of snow and ice",
    "Snow or frost", "haze",
)  # fmt: skip
_GEOMETRY = _graded(
    "geometry", "geometry, warping, shape, deformation", "geometry, shapes",
    "warped, wavy, deformed, warping, geometric distortion, deformation", "warped, deformed",
    "undistorted, free of warping, no warping, true to shape", "free of warping, true to shape", "Warping", "geometry",
)  # fmt: skip
_COMPOSITION = _graded(
    "composition", "composition, framing, layout", "composition, framing",
    "poorly composed, badly composed, cluttered, unbalanced, poor composition, bad composition, messy composition, tilted",
    "poorly composed, weak in composition",
    "well composed, well-composed, well framed, good composition, balanced composition, harmonious composition",
    "well composed, harmonious in composition", "", "composition",
)  # fmt: skip

_EXPOSURE = Attribute(
    "exposure",
    ("exposure", "brightness", "lighting", "light", "lightness", "illumination", "luminance"),
    ("brightness", "exposure", "lighting"),
    (
        Step(
            ("underexposed", "under-exposed", "too dark", "dark", "dim", "dimly lit", "poorly lit", "insufficient light",
             "insufficient lighting", "underexposure", "low light", "poor lighting", "low brightness"),
            ("dark", "dimly lit"),
            "Underexposure",
        ),
        Step(
            ("well exposed", "well-exposed", "properly exposed", "well lit", "well-lit", "normal brightness", "good lighting",
             "moderate brightness", "adequate brightness", "sufficient light", "sufficient lighting", "correct exposure"),
            ("well exposed", "properly lit"),
        ),
        Step(
            ("overexposed", "over-exposed", "too bright", "overly bright", "blown out", "overexposure", "glaring",
             "excessively bright", "burnt out"),
            ("overexposed", "too bright"),
            "Overexposure",
        ),
    ),
    "exposure",
    excluding=True,
)  # fmt: skip
_CONTRAST = Attribute(
    "contrast",
    ("contrast", "tone", "tonal range"),
    ("contrast", "tonal contrast"),
    (
        Step(("low in contrast", "low contrast", "low-contrast", "flat", "weak contrast", "poor contrast", "lacks contrast",
              "lack of contrast"), ("low in contrast", "flat"), "Low contrast"),
        Step(("balanced in contrast", "moderate contrast", "balanced contrast", "normal contrast", "medium contrast"),
             ("balanced in contrast", "moderate in contrast")),
        Step(("high in contrast", "high contrast", "high-contrast", "strong contrast", "harsh contrast"),
             ("high in contrast", "strong in contrast")),
    ),
    "contrast",
    excluding=True,
)  # fmt: skip

QUALITY = Attribute(
    "quality",
    ("quality", "overall", "overall quality"),
    ("overall quality", "quality"),
    (
        Step(("poor", "bad", "low", "very poor", "very bad", "unsatisfactory", "terrible"), ("poor in quality", "of low quality")),
        Step(("fair", "average", "acceptable", "medium", "moderate", "mediocre"), ("fair in quality", "of medium quality")),
        Step(("good", "excellent", "high", "very good", "great"), ("good in quality", "of high quality")),
    ),
    "quality",
    excluding=True,
)  # fmt: skip

ATTRIBUTES = (
    _SHARPNESS, _FOCUS, _MOTION, _NOISE, _EXPOSURE, _CONTRAST, _COLOUR, _COMPRESSION, _PIXELATION, _DETAIL, _HAZE, _OVERLAY,
    _GEOMETRY, _COMPOSITION,
)  # fmt: skip
"""All but the overall quality, which is read from the conclusion."""

PLACES = {
    "the background": ("the foreground", "the main subject"),
    "the foreground": ("the background",),
    "the main subject": ("the background",),
    "the left part": ("the right part", "the centre"),
    "the right part": ("the left part", "the centre"),
    "the upper part": ("the lower part", "the centre"),
    "the lower part": ("the upper part", "the centre"),
    "the centre": ("the edges",),
    "the edges": ("the centre",),
    "the sky": ("the ground",),
    "the ground": ("the sky",),
}
"""Where something may be seen, and for each place those that are certainly other places."""

PLACE_WORDS = {
    "background": "the background", "foreground": "the foreground", "main subject": "the main subject",
    "subject": "the main subject", "main object": "the main subject", "left": "the left part", "right": "the right part",
    "upper": "the upper part", "top": "the upper part", "lower": "the lower part", "bottom": "the lower part",
    "centre": "the centre", "center": "the centre", "middle": "the centre", "edges": "the edges", "corners": "the edges",
    "borders": "the edges", "sky": "the sky", "ground": "the ground",
}  # fmt: skip
"""How people name the places."""
