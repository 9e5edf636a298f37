"""The attributes of Sec. III-B2 with the words in which people grade them. Data.

Chosen by us: the paper's reference attribute set is not printed. The choice follows the concerns of Q-Bench
(arXiv 2309.14181): blur, noise, exposure, artefacts, colour, lightness, focus, composition.
"""

from __future__ import annotations

from .scale import Attribute, Step


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
    "sharpness",
    "sharpness, clarity, blur, blurriness, clearness",
    "sharpness, clarity",
    "blurry, blurred, unsharp, fuzzy, not sharp, not clear, unclear, blur, lacks sharpness, lack of sharpness",
    "blurry, unsharp, blurred",
    "sharp, crisp, clear, not blurry, no blur, without blur, high clarity",
    "sharp, crisp",
    "Blur",
    "blur",
)
_FOCUS = _graded(
    "focus",
    "focus, focusing, depth of field",
    "focus",
    "out of focus, out-of-focus, defocused, misfocused, "
    "not in focus, unfocused, defocus, focus is off, inaccurate focus",
    "out of focus, defocused",
    "in focus, well focused, well-focused, accurate focus, correctly focused",
    "in focus, correctly focused",
    "Out-of-focus blur",
    "blur",
)
_MOTION = _graded(
    "motion",
    "motion, motion blur, camera shake, movement",
    "steadiness",
    "motion-blurred, motion blurred, motion blur, camera shake, shaky, smeared by motion",
    "smeared by motion, motion-blurred",
    "steady, no motion blur, free of motion blur, without motion blur",
    "free of motion blur, steady",
    "Motion blur",
    "blur",
)
_NOISE = _graded(
    "noise",
    "noise, noisiness, grain",
    "noise level, cleanness",
    "noisy, grainy, noise, grain, graininess",
    "noisy, grainy",
    "noise-free, free of noise, no noise, no visible noise, without noise, "
    "not noisy, no grain, clean, little noise, low noise",
    "free of noise, clean",
    "Noise",
    "noise",
)
_COMPRESSION = _graded(
    "compression",
    "compression, artifacts, artefacts, compression artifacts, blocking, jpeg",
    "compression quality",
    "blocky, blocking artifacts, compression artifacts, compression artefacts, jpeg artifacts, jpeg artefacts, "
    "block artifacts, strongly compressed, over-compressed, ringing",
    "blocky, marred by compression",
    "free of compression artifacts, artifact-free, artefact-free, no artifacts, no artefacts, "
    "no compression artifacts, without artifacts, no blocking",
    "free of compression artifacts, cleanly encoded",
    "Compression artifacts",
    "coding",
)
_PIXELATION = _graded(
    "pixelation",
    "pixelation, resolution, aliasing",
    "pixel structure, resolution",
    "pixelated, pixelation, coarse pixels, jagged, low resolution, low-resolution",
    "pixelated, coarse in resolution",
    "free of pixelation, no pixelation, smooth edges, high resolution, high-resolution",
    "free of pixelation, fine in resolution",
    "Pixelation",
    "coding",
)
_DETAIL = _graded(
    "detail",
    "detail, details, texture, textures",
    "detail, texture",
    "lacking in detail, lacks detail, lack of detail, loss of detail, lost details, texture is lost, few details, "
    "without detail, texture details are lost",
    "lacking in detail, poor in texture",
    "detailed, rich in detail, rich details, rich texture, fine details, fine detail, abundant details",
    "rich in detail, detailed",
    "Loss of detail",
    "blur",
)
_COLOUR = _graded(
    "colour",
    "colour, color, colours, colors, colorfulness, saturation, vividness",
    "colours",
    "dull, faded, washed-out, washed out, desaturated, "
    "colourless, colorless, monotonous colors, pale colours, pale colors",
    "dull in colour, faded",
    "vivid, vibrant, colourful, colorful, rich colors, rich colours, bright colors, bright colours, saturated",
    "vivid, rich in colour",
    "Faded colours",
    "colour",
)
_HAZE = _graded(
    "haze",
    "haze, fog, mist, visibility",
    "visibility",
    "hazy, foggy, misty, fog, haze",
    "hazy, veiled by haze",
    "haze-free, free of haze, free of fog, no haze, no fog, clear view",
    "free of haze, unveiled",
    "Haze",
    "haze",
)
_OVERLAY = _graded(
    "overlay",
    "overlay, frost, snow, weather, obstruction, occlusion",
    "view through the lens",
    "covered by snow or ice, falling snow, snowflakes, covered by frost, frosted over, ice crystals, frost on the lens",
    "covered by snow or ice, hidden behind snow or ice",
    "unobstructed, free of frost, free of snow, no frost, no snowflakes",
    "unobstructed, free of snow and ice",
    "Snow or frost",
    "haze",
)
_GEOMETRY = _graded(
    "geometry",
    "geometry, warping, shape, deformation",
    "geometry, shapes",
    "warped, wavy, deformed, warping, geometric distortion, deformation",
    "warped, deformed",
    "undistorted, free of warping, no warping, true to shape",
    "free of warping, true to shape",
    "Warping",
    "geometry",
)
_COMPOSITION = _graded(
    "composition",
    "composition, framing, layout",
    "composition, framing",
    "poorly composed, badly composed, cluttered, unbalanced, "
    "poor composition, bad composition, messy composition, tilted",
    "poorly composed, weak in composition",
    "well composed, well-composed, well framed, good composition, balanced composition, harmonious composition",
    "well composed, harmonious in composition",
    "",
    "composition",
)

_EXPOSURE = Attribute(
    "exposure",
    ("exposure", "brightness", "lighting", "light", "lightness", "illumination", "luminance"),
    ("brightness", "exposure", "lighting"),
    (
        Step(
            (
                "underexposed",
                "under-exposed",
                "too dark",
                "dark",
                "dim",
                "dimly lit",
                "poorly lit",
                "insufficient light",
                "insufficient lighting",
                "underexposure",
                "low light",
                "poor lighting",
                "low brightness",
            ),
            ("dark", "dimly lit"),
            "Underexposure",
        ),
        Step(
            (
                "well exposed",
                "well-exposed",
                "properly exposed",
                "well lit",
                "well-lit",
                "normal brightness",
                "good lighting",
                "moderate brightness",
                "adequate brightness",
                "sufficient light",
                "sufficient lighting",
                "correct exposure",
            ),
            ("well exposed", "properly lit"),
        ),
        Step(
            (
                "overexposed",
                "over-exposed",
                "too bright",
                "overly bright",
                "blown out",
                "overexposure",
                "glaring",
                "excessively bright",
                "burnt out",
            ),
            ("overexposed", "too bright"),
            "Overexposure",
        ),
    ),
    "exposure",
    excluding=True,
)
_CONTRAST = Attribute(
    "contrast",
    ("contrast", "tone", "tonal range"),
    ("contrast", "tonal contrast"),
    (
        Step(
            (
                "low in contrast",
                "low contrast",
                "low-contrast",
                "flat",
                "weak contrast",
                "poor contrast",
                "lacks contrast",
                "lack of contrast",
            ),
            ("low in contrast", "flat"),
            "Low contrast",
        ),
        Step(
            ("balanced in contrast", "moderate contrast", "balanced contrast", "normal contrast", "medium contrast"),
            ("balanced in contrast", "moderate in contrast"),
        ),
        Step(
            ("high in contrast", "high contrast", "high-contrast", "strong contrast", "harsh contrast"),
            ("high in contrast", "strong in contrast"),
        ),
    ),
    "contrast",
    excluding=True,
)

QUALITY = Attribute(
    "quality",
    ("quality", "overall", "overall quality"),
    ("overall quality", "quality"),
    (
        Step(
            ("poor", "bad", "low", "very poor", "very bad", "unsatisfactory", "terrible"),
            ("poor in quality", "low in quality"),
        ),
        Step(
            ("fair", "average", "acceptable", "medium", "moderate", "mediocre"),
            ("fair in quality", "medium in quality"),
        ),
        Step(("good", "excellent", "high", "very good", "great"), ("good in quality", "high in quality")),
    ),
    "quality",
    excluding=True,
)

ATTRIBUTES = (
    _SHARPNESS,
    _FOCUS,
    _MOTION,
    _NOISE,
    _EXPOSURE,
    _CONTRAST,
    _COLOUR,
    _COMPRESSION,
    _PIXELATION,
    _DETAIL,
    _HAZE,
    _OVERLAY,
    _GEOMETRY,
    _COMPOSITION,
)
"""All but the overall quality, which is read from the conclusion."""
