"""Q-SiT: score a photograph as people would, and ask about its quality in words.

    from qsit_metric import QSiT

    metric = QSiT()
    metric.score("photo.jpg")                     # 1..5, higher is better
    metric.ask("photo.jpg", "Is the sky noisy?")

Importing this package is cheap; torch is imported when a name that needs it is first used.
"""

import lazy_loader

from ._moved import answer_to_former_names

answer_to_former_names()

# The names are listed in the stub beside this file, for the loader and for type checkers alike.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
