"""What a Hub client may throw, told as one `HubError` with the way out.

`huggingface_hub` below 1.0 speaks through `requests`, later versions through `httpx` or `httpx2`; some failures are its
own classes, some are plain OSErrors from the disk. The kinds below are read from what they have in common (status code,
errno, the root class of whichever HTTP library is in use), so that no HTTP library has to be imported or named.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

from .. import catalog
from ..errors import HubError
from .cache import Request

__all__ = ["explain", "failures", "is_cut", "is_unreachable", "ways_out"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_BUSY = {408, 429}  # with every 5xx: the Hub is there but does not serve now
_CUT = {"ChunkedEncodingError", "RemoteProtocolError", "ReadError"}  # as requests and httpx call it
_REASON = 200

_LOGIN = "log in with `hf auth login`, set HF_TOKEN or pass `token=`."
_FROM = "{repo}@{revision} from {endpoint}"
# kind -> (argument, its value, what was expected, the next step)
_TOLD: dict[str, tuple[str, str, str, str]] = {
    "gated": (
        "{argument}",
        "{asked}",
        "a repository whose conditions you accepted; {repo} is gated",
        "Accept its conditions at {page}, then " + _LOGIN,
    ),
    "revision": (
        "revision",
        "{revision}",
        "a branch, tag or commit of {repo} at {endpoint}",
        "See {page}/commits/main for its commits.",
    ),
    "login": (
        "{argument}",
        "{asked}",
        "a repository that {endpoint} shows to you; it answered 401, so {repo} is private or does not exist, or the "
        "token is not valid",
        "{near}If it is private, " + _LOGIN,
    ),
    "missing": (
        "{argument}",
        "{asked}",
        "a repository that exists; {endpoint} has no {repo}",
        "{near}If it is private, " + _LOGIN + "{folder}",
    ),
    "refused": (
        "{argument}",
        "{asked}",
        "a repository that you may read; {endpoint} refused {repo} ({reason})",
        "Check that your token may read it: " + _LOGIN,
    ),
    "name": ("{argument}", "{asked}", "a repository name that the Hub allows ({reason})", "{folder}"),
    "unreachable": (
        "{argument}",
        "{asked}",
        _FROM + ", which could not be reached ({reason}), and no complete copy is in {cache}",
        "{ways}",
    ),
    "cut": (
        "{argument}",
        "{asked}",
        _FROM + "; the transfer broke off ({reason})",
        "Call again: what has arrived is kept, also of a large file. {ways}",
    ),
    "short": (
        "{argument}",
        "{asked}",
        _FROM + "; a file arrived with another size than announced ({reason})",
        "Call again; if it happens twice, a proxy or mirror on the way cuts files.",
    ),
    "full": (
        "cache_dir",
        "{cache}",
        "a folder with room for {repo}; the disk is full or a quota is reached ({reason})",
        "Free some space, or point HF_HOME, HF_HUB_CACHE or `cache_dir=` to another disk.",
    ),
    "denied": (
        "cache_dir",
        "{cache}",
        "a folder that can be written ({reason})",
        "Correct its permissions, or point HF_HOME, HF_HUB_CACHE or `cache_dir=` to a folder of yours.",
    ),
    "strange": (
        "{argument}",
        "{asked}",
        _FROM + "; what answered there is not the Hub's API ({reason})",
        "Check HF_ENDPOINT, and that no proxy or login page answers in its place. {ways}",
    ),
    "other": ("{argument}", "{asked}", _FROM + "; the Hub client failed ({reason})", "{ways}"),
}


def failures() -> tuple[type[Exception], ...]:
    """The classes that calls of the Hub client may raise, for an `except` around nothing but such a call.

    The last three are what the client raises while it reads an answer that is not the Hub's.
    """
    return (OSError, RuntimeError, _http_root(), ValueError, KeyError, TypeError)


def explain(request: Request, error: Exception, *, fetching: bool = False, cached: str = "") -> HubError:
    """Tell a failure of the Hub client in the package's words.

    Args:
        request: What was asked for.
        error: What the client raised.
        fetching: Whether files were already on their way (a lost connection is then a transfer that broke off).
        cached: One more sentence about what the cache holds.

    Returns:
        The error to raise `from error`.
    """
    error = _innermost(error)
    kind = _kind(error)
    if fetching and kind == "unreachable":
        kind = "cut"
    if kind == "denied" and not _in_cache(request, error):
        kind = "other"
    argument, value, expected, hint = _TOLD[kind]
    name = request.asked.partition("@")[0]
    near = catalog.nearest(name) if request.kind == "model" and catalog.find(name) is None else []
    facts = {
        "asked": request.asked,
        "repo": request.repo,
        "revision": request.revision,
        "endpoint": request.endpoint,
        "argument": request.argument,
        "page": request.page,
        "folder": f" A folder is written './{request.repo}'." if request.kind == "model" else "",
        "cache": str(request.cache),
        "near": f"Did you mean {near[0]!r}? " if near else "",
        "reason": _reason(request, error),
        "ways": ways_out(request),
    }
    told = f"{hint.format(**facts)} {cached}".strip()
    return HubError.about(argument.format(**facts), value.format(**facts), expected.format(**facts), told)


def is_unreachable(error: Exception) -> bool:
    """Whether the Hub did not serve at all, so that a complete copy in the cache may stand in for it."""
    return _kind(_innermost(error)) in ("unreachable", "strange")


def is_cut(error: Exception) -> bool:
    """Whether a body broke off in the middle, which not every version of the client tries again by itself."""
    return isinstance(error, _http_root()) and type(error).__name__ in _CUT


def ways_out(request: Request) -> str:
    """Say how to get a repository onto a machine that cannot reach the Hub."""
    if request.kind == "dataset":
        return (
            "Ways out: fetch it where there is a network and copy the data root, or copy the Hub cache and set HF_HOME "
            "to it; set HF_ENDPOINT to a mirror."
        )
    embedded = catalog.embedded_names()
    offline = f"; or use {', '.join(map(repr, embedded))}, which needs no network" if embedded else ""
    return (
        f"Ways out: run `qsit download {request.asked}` where there is a network, copy the folder it prints and pass "
        f"its path as the model, or copy the cache and set HF_HOME to it; set HF_ENDPOINT to a mirror{offline}."
    )


def _kind(error: Exception) -> str:
    from huggingface_hub import errors

    status = _status(error)
    code = error.errno if isinstance(error, OSError) else None
    rules = (
        ("name", isinstance(error, errors.HFValidationError)),
        ("gated", isinstance(error, errors.GatedRepoError)),
        ("revision", isinstance(error, errors.RevisionNotFoundError)),
        ("login", status == 401),
        ("missing", status == 404 and not isinstance(error, errors.EntryNotFoundError)),
        ("refused", status == 403),
        ("unreachable", status is not None and (status in _BUSY or status >= 500)),
        ("full", code in _FULL or "No space left" in str(error)),
        ("denied", code in _DENIED),
        ("short", "Consistency check failed" in str(error)),
        ("strange", isinstance(error, (ValueError, KeyError, TypeError, errors.FileMetadataError))),
        ("unreachable", status is None and isinstance(error, (_http_root(), ConnectionError, TimeoutError))),
    )
    return next((kind for kind, hit in rules if hit), "other")


def _http_root() -> type[Exception]:
    """The most general exception of the HTTP library that the installed Hub client uses."""
    from huggingface_hub.errors import HfHubHTTPError

    outside = [kind for kind in HfHubHTTPError.__mro__ if kind.__module__ not in ("builtins", "huggingface_hub.errors")]
    return outside[-1]


def _innermost(error: Exception) -> Exception:
    """Unwrap the client's "not found locally", which hides why the Hub was not read."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _in_cache(request: Request, error: Exception) -> bool:
    """Whether a disk error speaks of the cache (and not, for example, of the file with the saved login)."""
    name = getattr(error, "filename", None)
    return not isinstance(name, str) or Path(name).resolve().is_relative_to(request.cache.resolve())


def _reason(request: Request, error: Exception) -> str:
    """Shorten the client's text: its first line, without the signatures of addresses and without a password."""
    from huggingface_hub import constants

    # `requests` wraps the refused connection twice; the inner one says why.
    inner = getattr(error.args[0], "reason", None) if error.args else None
    text = str(inner or error).strip().partition("\n")[0].replace(constants.ENDPOINT, request.endpoint)
    text = re.sub(r"\?[^\s'\")]+", "", text)
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return told if len(told) <= _REASON else told[: _REASON - 3] + "..."
