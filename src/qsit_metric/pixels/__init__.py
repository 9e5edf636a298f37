"""From anything that shows a picture to the tiles that the model sees: read, decode, convert, resize, cut.

    from qsit_metric.pixels import Geometry, cut, load

    tiles = cut(load("photo.jpg"), Geometry())        # (tiles, 3, 384, 384), uint8

Nothing here knows a model. Importing the package is cheap; NumPy, Pillow and torch come with the names that need them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
