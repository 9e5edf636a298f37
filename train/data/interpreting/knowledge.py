"""What our templates know about each distortion: causes, advice for the photographer, tools. Data, written by us.

General knowledge of photography and of image processing; nothing here is taken from a data set.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Knowledge:
    """About one distortion; each text completes a sentence.

    Attributes:
        causes: "A likely cause is ...".
        advice: "I would ...".
        tools: "... helps".
    """

    causes: tuple[str, ...]
    advice: tuple[str, ...]
    tools: tuple[str, ...]


KNOWLEDGE = {
    "Blur": Knowledge(
        (
            "a lens that does not resolve fine detail",
            "a focus that missed, or a dirty lens",
            "strong denoising in the camera",
        ),
        ("clean the lens and focus on the subject with care", "use a shorter exposure and a sharper aperture"),
        ("a deblurring network such as a restoration transformer", "mild unsharp masking"),
    ),
    "Out-of-focus blur": Knowledge(
        ("a focus plane in front of or behind the subject", "a wide aperture with little depth of field"),
        ("place the focus point on the subject", "close the aperture by one or two stops"),
        ("a defocus-deblurring model", "deconvolution with a disk-shaped kernel"),
    ),
    "Motion blur": Knowledge(
        ("a shutter that was open too long for the movement", "a camera that shook during the exposure"),
        ("use a shorter exposure time", "put the camera on a tripod or switch on stabilisation"),
        ("a motion-deblurring network", "blind deconvolution along the direction of the movement"),
    ),
    "Noise": Knowledge(
        ("a high ISO setting in weak light", "a small sensor that caught few photons"),
        ("lower the ISO and add light", "expose longer from a tripod"),
        ("a denoiser such as BM3D or a denoising network", "the noise reduction of a raw converter"),
    ),
    "Compression artifacts": Knowledge(
        ("saving as JPEG at a low quality", "several rounds of compression by a messenger or a web page"),
        ("save at a higher quality or in a lossless format", "keep the raw file and export only once"),
        ("a JPEG artefact removal network", "a deblocking filter"),
    ),
    "Pixelation": Knowledge(
        ("enlarging a small picture without interpolation", "a resolution that is too low for this size"),
        ("record at the full resolution of the sensor", "move closer in place of cropping later"),
        ("a super-resolution network", "resampling with a smoother kernel"),
    ),
    "Loss of detail": Knowledge(
        ("denoising or compression that smoothed the texture away", "a lens or a resolution that is too weak"),
        ("switch off strong noise reduction", "use a better lens at a middle aperture"),
        ("a super-resolution model that restores texture", "local contrast enhancement"),
    ),
    "Faded colours": Knowledge(
        ("flat light or a wrong white balance", "a picture profile with little saturation"),
        ("set the white balance by hand", "come back in warmer light"),
        ("a vibrance slider or a colour grading tool", "automatic white balance and a saturation curve"),
    ),
    "Haze": Knowledge(
        ("fog or dust in the air between camera and subject", "stray light in the lens"),
        ("wait for clearer air", "use a lens hood and go closer"),
        ("a dehazing algorithm such as the dark channel prior", "a dehaze slider together with a contrast curve"),
    ),
    "Snow or frost": Knowledge(
        ("falling snow in front of the lens", "ice on the lens or on a window"),
        ("shield and dry the lens", "wait until the weather clears"),
        ("a snow removal network", "inpainting of the covered parts"),
    ),
    "Warping": Knowledge(
        ("a rolling shutter or hot air in front of the lens", "a faulty geometric correction"),
        ("hold the camera still and use a mechanical shutter", "use a lens with less distortion"),
        ("a geometric rectification tool", "registration against an undistorted picture"),
    ),
    "Underexposure": Knowledge(
        ("too little light for the exposure that was set", "a meter that was misled by a bright area"),
        ("expose longer or open the aperture", "add a lamp or a reflector"),
        ("a low-light enhancement network", "raising the shadows in a raw converter"),
    ),
    "Overexposure": Knowledge(
        ("an exposure that was too long for so much light", "metering on a dark area"),
        ("use a shorter exposure or a neutral density filter", "meter on the highlights"),
        ("highlight recovery in a raw converter", "merging several exposures into an HDR picture"),
    ),
    "Low contrast": Knowledge(
        ("diffuse light, or stray light in the lens", "a flat tone curve"),
        ("look for light from the side", "use a lens hood"),
        ("a tone curve or histogram equalisation", "local contrast enhancement such as CLAHE"),
    ),
}

CONSUMERS = (
    (
        "people who need a record of the scene rather than a beautiful picture",
        "researchers who collect distorted pictures",
    ),
    ("casual viewers on social media", "readers of a blog, at a small size"),
    ("people who print pictures large", "magazines and exhibitions"),
)
"""Whom a picture suits whose overall quality is low, medium, high."""
