"""The network that pyiqa builds for our names; registered by `integrations.pyiqa`."""

from __future__ import annotations

from ..module import QSiTModule

__all__ = ["QSiTMetricArch"]


class QSiTMetricArch(QSiTModule):
    """`QSiTModule` under a name that no network of pyiqa's own has: the class's name is its key in pyiqa's registry.

    pyiqa checks the range of its inputs itself, with a tolerance, and not at all for a loss; what comes through is
    clamped here.
    """
