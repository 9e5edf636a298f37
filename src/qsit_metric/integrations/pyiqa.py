"""Q-SiT in pyiqa: after `register()`, `pyiqa.create_metric("q-sit-mini")` works.

Host: github.com/chaofengc/IQA-PyTorch, optional, and of another licence than ours (PolyForm Noncommercial from 0.1.16).
pyiqa 0.1.16 also finds `register` by itself, through the entry point `pyiqa.archs`, but only when it looks for a
network that it does not know: too late for a `create_metric` that is the first call of a process. So call `register()`.
"""

from __future__ import annotations

from .. import catalog, levels
from ..metric import QSiT
from ..modules.differentiable import QSiTModule
from ..packages import require

__all__ = ["QSiTMetricArch", "register"]


class QSiTMetricArch(QSiTModule):
    """`QSiTModule` under a name that no network of pyiqa's own has: the class's name is its key in pyiqa's registry.

    pyiqa checks the range of its inputs itself, with a tolerance, and not at all for a loss; what comes through is
    clamped here.
    """


def register() -> None:
    """Add the Q-SiT models of the catalog to pyiqa's names; loads none, and may be called again.

    Raises:
        DependencyError: pyiqa is not installed, or in a version that is not supported.

    Example:
        >>> register()  # doctest: +SKIP
        >>> pyiqa.create_metric("q-sit-mini")("photo.jpg")  # doctest: +SKIP
        tensor([3.8712])
    """
    require("pyiqa", "pyiqa", least="0.1.14.1", below="0.2")
    from pyiqa.default_model_configs import DEFAULT_CONFIGS
    from pyiqa.utils.registry import ARCH_REGISTRY

    kind = QSiTMetricArch.__name__
    if kind not in ARCH_REGISTRY:  # asking may load the entry points, and those call this function
        ARCH_REGISTRY.register(QSiTMetricArch)
    about = {"metric_mode": QSiT.metric_mode, "lower_better": QSiT.lower_better, "score_range": levels.range_text()}
    for name in catalog.list_models("q-sit*"):
        DEFAULT_CONFIGS.setdefault(name, {"metric_opts": {"type": kind, "model": name}, **about})
