"""Anything a person may pass -> an RGB picture; see `reading.load`."""

from .reading import MAX_PIXELS, ImageLike, Picture, items, load, load_one, many

__all__ = ["MAX_PIXELS", "ImageLike", "Picture", "items", "load", "load_one", "many"]
