"""Versions of other packages that work: one clear error instead of a failure somewhere inside them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from .errors import DependencyError

TRANSFORMERS = ("4.57", "6")
"""First release that works, and first that is not known to; the same range as in the package's metadata."""


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
    try:
        found = version(name)
    except PackageNotFoundError:
        raise DependencyError.about(name, "<not installed>", wanted, missing) from None
    if not Version(least) <= Version(found) < Version(below):
        hint = f"Install one of these: pip install '{wanted.replace(' ', '')}'."
        raise DependencyError.about(name, found, wanted, hint)
    return found


def check_transformers() -> None:
    """Refuse a release of transformers that loads checkpoints in another way.

    Raises:
        DependencyError: Another release, or none.
    """
    check_version("transformers", *TRANSFORMERS, "Install it with: pip install qsit-metric.")
