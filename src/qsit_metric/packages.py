"""Other packages: which versions work, so that there is one clear error instead of a failure inside them; and quiet."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

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
