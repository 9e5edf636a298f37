"""What counts as a picture in a folder. Pure."""

from __future__ import annotations

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "avif", "bmp", "dib", "gif", "heic", "heif", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm", "pgm", "png",
        "pnm", "ppm", "tga", "tif", "tiff", "webp",
    )
)  # fmt: skip
"""Lower-case ends of names. HEIC is among them although Pillow alone cannot read it: an error that says so is better
than a photo that is silently left out."""
