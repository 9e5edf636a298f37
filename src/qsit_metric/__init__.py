"""Q-SiT: score a photograph as people would, and ask about its quality in words."""

from __future__ import annotations

from ._version import __version__

__all__ = ["__version__"]
