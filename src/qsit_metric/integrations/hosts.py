"""The packages that the integrations plug into: imported when used, or refused with one clear error."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..errors import DependencyError
from ..packages import check_version

__all__ = ["require"]


def require(module: str, extra: str, distribution: str = "", *, least: str, below: str) -> ModuleType:
    """Import a host package, if its version is one that the integration was tested with.

    Args:
        module: What is imported, "pyiqa".
        extra: The extra of this package that brings it.
        distribution: Its name on the package index, if it is another than the module's.
        least: First version that works.
        below: First version that is not known to work.

    Returns:
        The module.

    Raises:
        DependencyError: It is not installed, its version does not fit, or it cannot be imported.

    Example:
        >>> require("torch", "pyiqa", least="2.4", below="9").__name__
        'torch'
    """
    name = distribution or module
    found = check_version(name, least, below, f"Install it with: pip install 'qsit-metric[{extra}]'.")
    try:
        return import_module(module)
    except Exception as error:  # a host's own imports fail in many ways: torchvision raises RuntimeError
        reason = f"{type(error).__name__}: {error}"
        raise DependencyError(f"`{name}` {found} is installed, but cannot be imported: {reason}") from error
