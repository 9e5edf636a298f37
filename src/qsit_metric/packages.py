"""Other packages: which versions work, so that there is one clear error instead of a failure inside them; and quiet."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from packaging.version import Version

from .errors import DependencyError

TRANSFORMERS = ("4.57", "6")
"""First release that works, and first that is not known to; the same range as in the package's metadata."""


_hushed = False


def installed(name: str) -> str | None:
    """The installed version of a distribution, read without importing it; None if it is not there.

    Example:
        >>> installed("no-such-package") is None
        True
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_version(name: str, least: str, below: str, missing: str) -> str:
    """The installed version of a package, if it is one that works.

    Args:
        name: Of the distribution.
        least: First version that works.
        below: First version that is not known to work.
        missing: What to do where the package is not installed.

    Raises:
        DependencyError: It is not installed, or its version does not fit.

    Example:
        >>> check_version("torch", "2.4", "9", "").split(".")[0]
        '2'
    """
    wanted = f"{name} >={least},<{below}"
    found = installed(name)
    if found is None:
        raise DependencyError.about(name, "<not installed>", wanted, missing)
    if not Version(least) <= Version(found) < Version(below):
        hint = f"Install one of these: pip install '{wanted.replace(' ', '')}'."
        raise DependencyError.about(name, found, wanted, hint)
    return found


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


def check_transformers() -> None:
    """Refuse a release of transformers that loads checkpoints in another way. Call it before the first import.

    Raises:
        DependencyError: Another release, or none.
    """
    check_version("transformers", *TRANSFORMERS, "Install it with: pip install qsit-metric.")
    if _hushed:
        _silence()


def hush() -> None:
    """Switch off what transformers says to developers, also if it is imported later; the Hub's download bar stays."""
    global _hushed  # noqa: PLW0603  # as global as the logging of transformers itself
    _hushed = True
    if sys.modules.get("transformers"):
        _silence()


def _silence() -> None:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    disabled = are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()  # which switches off the Hub client's bars too
    if not disabled:
        enable_progress_bars()
