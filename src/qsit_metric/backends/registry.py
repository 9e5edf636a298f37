"""Where backends are found by name: entry points of the group `qsit_metric.backends`, our own among them."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from ..errors import DependencyError, UnknownNameError
from .base import Backend

GROUP = "qsit_metric.backends"
_BUILT_IN = {
    "llava_onevision": "qsit_metric.backends.llava_onevision:LlavaOnevisionBackend",
    "served": "qsit_metric.backends.served:ServedBackend",
    "transformers": "qsit_metric.backends.generic:TransformersBackend",
}


def backends() -> dict[str, EntryPoint]:
    """Every known backend, not yet imported.

    The built-in ones need no entry point, so a source tree on the path works without being installed, and nobody else
    can take their names.
    """
    found = {name: EntryPoint(name, target, GROUP) for name, target in _BUILT_IN.items()}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def _contested(name: str) -> list[str]:
    """Targets of a name that several packages claim; none if it is ours or one package's."""
    targets = sorted({point.value for point in entry_points(group=GROUP) if point.name == name})
    return targets if name not in _BUILT_IN and len(targets) > 1 else []


def backend_class(name: str) -> type[Backend]:
    """Import a backend by name.

    Raises:
        UnknownNameError: Nobody registered the name; the message lists the known ones and the nearest.
        DependencyError: The backend's package cannot be imported, or its entry point is no `Backend`.
    """
    known = backends()
    if not isinstance(name, str):
        raise UnknownNameError.about("backend", name, f"one of {', '.join(sorted(known))}")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Packages add backends with the entry point {GROUP!r}."
        raise UnknownNameError.about("backend", name, f"one of {', '.join(sorted(known))}", hint)
    if rivals := _contested(name):
        raise DependencyError.about("backend", name, f"one package behind that name, not {len(rivals)}", f"{rivals}")
    try:
        loaded = known[name].load()
    except Exception as error:  # a third party's import may fail in any way
        raise DependencyError.about(
            "backend", name, f"{known[name].value} to be importable", f"It said: {error}"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        raise DependencyError.about("backend", name, f"a subclass of Backend at {known[name].value}")
    return loaded
