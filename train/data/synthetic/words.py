"""How the degradations are said: attribute, words, causes, and what each of them hides. Data, chosen by us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..interpreting.knowledge import KNOWLEDGE, Knowledge
from ..interpreting.scale import Attribute
from ..interpreting.vocabulary import ATTRIBUTES, _graded

# Degradations of KADID-10k that the common vocabulary has no words for.
_MORE = (
    _graded(
        "fringes", "fringes, chromatic aberration", "rendering of edges, colour registration",
        "colour-fringed, marred by colour fringes, shifted in a colour channel",
        "colour-fringed, marred by colour fringes",
        "free of colour fringes, well registered in colour", "free of colour fringes, well registered in colour",
        "Colour fringes", "fringes",
    ),
    _graded(
        "bleeding", "bleeding, colour bleeding", "separation of colours",
        "smeared in colour, marred by colour bleeding", "smeared in colour, marred by colour bleeding",
        "free of colour bleeding, clean in its colour borders", "free of colour bleeding, clean in its colour borders",
        "Colour bleeding", "tint",
    ),
    _graded(
        "naturalness", "naturalness, tint", "naturalness of the colours",
        "oversaturated, garish in colour", "oversaturated, garish in colour",
        "natural in colour, free of oversaturation", "natural in colour, free of oversaturation",
        "Oversaturation", "tint",
    ),
    _graded(
        "banding", "banding, posterization, tonal steps", "smoothness of tones",
        "banded, posterized, reduced to few tones", "banded, reduced to few tones",
        "smooth in tone, free of banding", "smooth in tone, free of banding",
        "Banding", "banding",
    ),
    _graded(
        "scatter", "scatter, scattered pixels", "integrity of edges",
        "frayed, scattered in its pixels", "frayed, scattered in its pixels",
        "clean-edged, free of scattered pixels", "clean-edged, free of scattered pixels",
        "Scattered pixels", "geometry",
    ),
    _graded(
        "patches", "patches, coherence", "coherence",
        "broken by displaced patches, incoherent in places", "broken by displaced patches, incoherent in places",
        "coherent, free of displaced patches", "coherent, free of displaced patches",
        "Displaced patches", "patches",
    ),
    _graded(
        "squares", "squares, coloured squares", "view of the scene",
        "covered by coloured squares, hidden behind coloured squares",
        "covered by coloured squares, hidden behind coloured squares",
        "uncovered, free of coloured squares", "uncovered, free of coloured squares",
        "Coloured squares", "squares",
    ),
    _graded(
        "sharpening", "sharpening, halos", "naturalness of edges",
        "oversharpened, marred by halos", "oversharpened, marred by halos",
        "free of halos, natural at its edges", "free of halos, natural at its edges",
        "Oversharpening", "sharpening",
    ),
)  # fmt: skip
_UNUSED = ("composition",)
VOCABULARY: tuple[Attribute, ...] = tuple(one for one in (*ATTRIBUTES, *_MORE) if one.name not in _UNUSED)
"""The attributes that feedback on made pictures speaks of."""

BY_NAME: Mapping[str, Attribute] = MappingProxyType({one.name: one for one in VOCABULARY})


@dataclass(frozen=True)
class Saying:
    """How a degradation is said.

    Attributes:
        attribute: Name of the attribute that it lowers.
        words: Adjectives for it.
        causes: What may have done it; completes "A likely cause is ...".
    """

    attribute: str
    words: tuple[str, ...]
    causes: tuple[str, ...]


_DARK = Saying(
    "exposure", ("dark", "underexposed"), ("too little light for this exposure", "a tone curve that was bent down")
)
_BRIGHT = Saying(
    "exposure", ("too bright", "overexposed"), ("an exposure that was too long", "a tone curve that was bent up")
)
_FLAT = Saying("contrast", ("low in contrast", "flat"), ("a tone curve of little slope", "stray light in the lens"))
_HARSH = Saying(
    "contrast", ("high in contrast", "strong in contrast"), ("a steep tone curve", "strong editing of the tones")
)
_NOISE = ("a high ISO setting in weak light", "a sensor that caught too few photons")

SAYINGS: Mapping[str, Saying] = MappingProxyType(
    {
        "gaussian_blur": Saying(
            "sharpness", ("blurry", "unsharp", "blurred"), ("a smoothing filter", "a soft or dirty lens")
        ),
        "lens_blur": Saying(
            "focus", ("out of focus", "defocused"), ("a lens that was set to the wrong distance", "a wide aperture")
        ),
        "motion_blur": Saying(
            "motion", ("motion-blurred", "smeared by motion"), ("a shutter that was open too long", "an unsteady hand")
        ),
        "color_diffusion": Saying(
            "bleeding", ("smeared in colour", "marred by colour bleeding"), ("coarse coding of the colour channels",)
        ),
        "color_shift": Saying(
            "fringes",
            ("colour-fringed", "marred by colour fringes"),
            ("a colour channel that was moved", "a simple lens"),
        ),
        "color_quantization": Saying(
            "banding", ("reduced to few tones", "posterized"), ("saving with a small colour palette",)
        ),
        "color_saturation_hsv": Saying(
            "colour", ("faded", "dull in colour"), ("a saturation that was turned down", "weak dyes of an old print")
        ),
        "color_saturation_lab": Saying(
            "naturalness", ("oversaturated", "garish in colour"), ("a saturation that was turned up too far",)
        ),
        "jpeg2000": Saying(
            "compression", ("marred by compression", "over-compressed"), ("wavelet coding at a very low rate",)
        ),
        "jpeg": Saying("compression", ("blocky", "over-compressed"), ("saving as JPEG at a low setting",)),
        "white_noise": Saying("noise", ("noisy", "grainy"), _NOISE),
        "white_noise_color_component": Saying("noise", ("noisy", "grainy"), _NOISE),
        "impulse_noise": Saying("noise", ("noisy",), ("faulty pixels of the sensor", "errors in the transmission")),
        "multiplicative_noise": Saying("noise", ("noisy", "grainy"), ("an unstable gain of the sensor",)),
        "denoise": Saying(
            "detail", ("lacking in detail", "poor in texture"), ("a filter that smoothed the texture away",)
        ),
        "brighten": _BRIGHT,
        "darken": _DARK,
        "jitter": Saying(
            "scatter", ("frayed", "scattered in its pixels"), ("pixels that were read from places nearby",)
        ),
        "non_eccentricity_patch": Saying(
            "patches",
            ("broken by displaced patches", "incoherent in places"),
            ("small parts that were copied to a wrong place",),
        ),
        "pixelate": Saying(
            "pixelation", ("pixelated", "coarse in resolution"), ("enlarging a small picture without interpolation",)
        ),
        "quantization": Saying("banding", ("banded", "posterized"), ("storing too few levels of each channel",)),
        "color_block": Saying(
            "squares",
            ("covered by coloured squares",),
            ("lost parts of the file that were filled in", "drawing over the picture"),
        ),
        "high_sharpen": Saying(
            "sharpening", ("oversharpened", "marred by halos"), ("a sharpening filter that went too far",)
        ),
        # the fifteen corruptions
        "gaussian_noise": Saying("noise", ("noisy", "grainy"), _NOISE),
        "shot_noise": Saying("noise", ("noisy", "grainy"), _NOISE),
        "defocus_blur": Saying("focus", ("out of focus", "defocused"), ("a lens that was set to the wrong distance",)),
        "glass_blur": Saying("sharpness", ("blurry", "unsharp", "blurred"), ("frosted glass before the lens",)),
        "zoom_blur": Saying(
            "motion", ("motion-blurred", "smeared by motion"), ("a lens that zoomed during the exposure",)
        ),
        "snow": Saying("overlay", ("covered by snow or ice",), ("a storm in front of the lens",)),
        "frost": Saying("overlay", ("covered by snow or ice",), ("a frozen window or lens",)),
        "fog": Saying("haze", ("hazy", "veiled by haze"), ("humid or dusty air before the camera",)),
        "brightness": _BRIGHT,
        "contrast": _FLAT,
        "elastic_transform": Saying("geometry", ("warped", "deformed"), ("a faulty geometric correction",)),
        "jpeg_compression": Saying("compression", ("blocky", "over-compressed"), ("saving as JPEG at a low setting",)),
        # the two sides of mean_shift and of contrast_change
        "mean_shift+": _BRIGHT,
        "mean_shift-": _DARK,
        "contrast_change+": _HARSH,
        "contrast_change-": _FLAT,
    }
)

HIDES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "noise": ("blur", "coding", "banding", "geometry", "sharpening"),
        "blur": ("coding", "geometry", "fringes", "sharpening"),
        "coding": ("blur", "banding", "geometry", "tint", "fringes", "patches", "noise"),
        "banding": ("noise", "coding", "contrast", "colour", "tint"),
        "colour": ("tint", "contrast", "fringes"),
        "tint": ("colour", "banding", "fringes", "contrast", "exposure"),
        "fringes": ("tint", "blur"),
        "sharpening": ("noise", "blur", "contrast", "coding", "exposure"),
        "exposure": ("contrast", "colour", "haze", "tint", "banding"),
        "contrast": ("exposure", "haze", "colour", "tint"),
        "haze": ("contrast", "exposure", "colour", "blur", "noise"),
        "geometry": ("blur", "noise", "coding", "patches"),
        "patches": ("geometry", "coding"),
        "squares": (),
    }
)
"""Family of a degradation -> families of which nothing can be said any more."""

MORE_KNOWLEDGE: Mapping[str, Knowledge] = MappingProxyType(
    {
        "Colour fringes": Knowledge(
            ("a lens that bends colours differently", "a colour channel that was moved"),
            ("use a better corrected lens", "close the aperture by one stop"),
            ("a correction of chromatic aberration", "aligning the colour channels"),
        ),
        "Colour bleeding": Knowledge(
            ("coarse coding of the colour channels", "smoothing of colour that went too far"),
            ("save without colour subsampling", "work on the raw file again"),
            (
                "a filter that guides colour by the edges of the light",
                "replacing the colour channels from an earlier copy",
            ),
        ),
        "Oversaturation": Knowledge(
            ("a saturation that was turned up too far", "a wrong colour profile"),
            ("edit colours with a lighter hand", "choose a neutral picture profile"),
            ("a saturation slider or a curve in Lab", "converting the picture with the right profile"),
        ),
        "Banding": Knowledge(
            ("too few levels of tone or colour", "saving with a small palette"),
            ("store the picture with eight bits or more", "avoid formats with a palette"),
            ("a debanding filter", "dithering when the levels are reduced"),
        ),
        "Scattered pixels": Knowledge(
            ("pixels that were read from places nearby", "an error of a warping step"),
            ("read the picture from the card again", "check the software that warped it"),
            ("a median filter", "registration against an undamaged copy"),
        ),
        "Displaced patches": Knowledge(
            ("small parts that were copied to a wrong place", "errors in the transmission of blocks"),
            ("transfer the file again", "keep an undamaged copy"),
            ("inpainting of the wrong parts", "a clone brush"),
        ),
        "Coloured squares": Knowledge(
            ("lost parts of the file that were filled in", "drawing over the picture"),
            ("transfer the file again", "keep an undamaged copy"),
            ("inpainting of the covered parts", "a clone brush"),
        ),
        "Oversharpening": Knowledge(
            ("unsharp masking that went too far", "strong processing in the camera"),
            ("sharpen less, and at the final size", "lower the sharpening of the camera"),
            ("a halo removal filter", "a mild blur along the edges"),
        ),
    }
)
ALL_KNOWLEDGE: Mapping[str, Knowledge] = MappingProxyType({**KNOWLEDGE, **MORE_KNOWLEDGE})

PRAISED: Mapping[str, float] = MappingProxyType(
    {
        "banding": 0.04, "bleeding": 0.03, "colour": 0.09, "compression": 0.07, "contrast": 0.02, "detail": 0.09,
        "exposure": 0.01, "focus": 0.11, "fringes": 0.05, "geometry": 0.02, "haze": 0.01, "motion": 0.07,
        "naturalness": 0.04, "noise": 0.07, "overlay": 0.01, "patches": 0.03, "pixelation": 0.09, "scatter": 0.04,
        "sharpening": 0.04, "sharpness": 0.12, "squares": 0.04,
    }
)  # fmt: skip
"""Chance that an attribute that is right is said to be so.

Solved by simulation of `shots.draw_degradations`, so that each is praised half as often as it is blamed: then its three
steps are about equally frequent, and the question alone does not tell the answer.
"""
