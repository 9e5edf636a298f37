"""An exported folder -> a repository of the Hub, through `huggingface_hub`; each failure is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qsit_metric._version import __version__
from qsit_metric.errors import HubError
from qsit_metric.hub.errors import failures, is_unreachable

_LOGIN = "Log in with `hf auth login`, set HF_TOKEN or pass --token."


def check_target(repo: str, token: str | None, licence: str | None) -> None:
    """Refuse, before any work is done, what could not be pushed.

    Raises:
        HubError: No `owner/name`, no licence, or nobody is logged in.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise HubError.about("push", repo, "a repository 'owner/name' that the Hub allows", str(error)) from error
    if repo.count("/") != 1:
        raise HubError.about("push", repo, "a repository 'owner/name'")
    if licence is None:
        hint = "Pass --license; the base model's and the data sets' terms bind it."
        raise HubError.about("license", None, "the licence of published weights, for example apache-2.0", hint)
    if not (token or get_token()):
        raise HubError.about("token", None, "a token that may write", _LOGIN)


def push(folder: Path, repo: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a folder in one commit; the repository is made if it is not there.

    Args:
        folder: What `export` wrote.
        repo: `owner/name`.
        private: Whether a new repository is private; one that is there stays as it is.
        token: Hub token; None takes HF_TOKEN or the saved login.

    Returns:
        The address of the commit.

    Raises:
        HubError: No valid token, no permission, no network, or the Hub refused.
    """
    from huggingface_hub import HfApi, constants

    api = HfApi(constants.ENDPOINT, token=token, library_name="qsit-metric", library_version=__version__)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        message = f"Model exported by qsit-metric {__version__}"
        done: Any = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except failures() as error:
        raise _explained(error, folder, repo, constants.ENDPOINT) from error
    return str(done.commit_url)


def _explained(error: Exception, folder: Path, repo: str, endpoint: str) -> HubError:
    again = f"The model is whole in {folder}: once that is settled, run `hf upload {repo} {folder}`."
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if status == 401:
        return HubError.about("token", "<a token>", f"one that {endpoint} knows; it answered 401", f"{_LOGIN} {again}")
    if status == 403:
        hint = f"Use a token with the role 'write' and a namespace of yours. {again}"
        return HubError.about("push", repo, f"a repository that you may write; {endpoint} answered 403", hint)
    if is_unreachable(error) and (status is None or status in (408, 429) or status >= 500):
        return HubError.about("push", repo, f"a Hub that can be reached; {endpoint} could not ({reason})", again)
    return HubError.about("push", repo, f"an upload that {endpoint} accepts; it failed ({reason})", again)
