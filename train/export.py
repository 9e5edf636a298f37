"""From a run to a folder that `QSiT(folder)`, transformers and the Hub take: cast weights, all files, a model card.

Format: transformers' own (safetensors, config, tokenizer, chat template, processor files); the card's head is the Hub's
metadata (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from qsit_metric import QSiT
from qsit_metric._version import __version__
from qsit_metric.backends.training import Config, Tokenizer, load_geometry, load_weights
from qsit_metric.errors import HubError, QSiTError
from qsit_metric.files import Files, new_folder
from qsit_metric.hub import fingerprint, verify
from qsit_metric.hub.errors import failures, is_unreachable
from qsit_metric.prompts import Recipe

from .card import card, public
from .errors import RecipeError, RunError
from .model import Parts
from .recipe import load_yaml

if TYPE_CHECKING:
    from PIL import Image

TRAINING, LOG = "training.json", "log.jsonl"
FILES = Files(RunError, "run")
_LOGIN = "Log in with `hf auth login`, set HF_TOKEN or pass --token."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        folder: The folder; `QSiT(folder)` loads it.
        source: The checkpoint that it was made of.
        fingerprint: Names its content, as in result files.
        score: What it gives the test picture; finite, 1..5.
        size: Bytes of all files.
    """

    folder: Path
    source: Path
    fingerprint: str
    score: float
    size: int


def export(
    run: Path,
    output: Path,
    *,
    which: str | None = None,
    dtype: str = "bfloat16",
    licence: str | None = None,
    force: bool = False,
) -> Exported:
    """Write a run's model as a folder to publish; it is loaded and used once before it gets its name.

    Args:
        run: A run's folder, or one of its checkpoints.
        output: The folder to write; must not exist, unless `force`.
        which: "best" or "last" of the run; default: "best" if its recipe stops at a plateau, else "last", as the paper
            takes its models.
        dtype: "float32", "bfloat16" or "float16".
        licence: The weights' licence for the card, an identifier of the Hub ("apache-2.0").
        force: Replace a folder that is there.

    Raises:
        RunError: No such checkpoint, an output that is there, a weight that the type cannot hold, no room, or a result
            that does not work. What was there before is as it was.

    Example:
        >>> export(Path("runs/none"), Path("q-sit-mini"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        train.errors.RunError: `run`: got 'runs/none', expected a run's folder with a model in it (best)...
    """
    source = checkpoint_of(run, which)
    training, events = _facts(source), _events(run, source)
    if dtype not in DTYPES:
        raise RunError.about("dtype", dtype, f"one of {', '.join(DTYPES)}")
    _check_output(output, force)
    try:
        with new_folder(output) as work:
            _write(source, work, DTYPES[dtype])
            facts = json.dumps(public(training), indent=1, ensure_ascii=False)
            (work / TRAINING).write_text(facts + "\n", encoding="utf-8")
            text = card(output.name, training, events, dtype, licence, _scoring(source))
            (work / "README.md").write_text(text, encoding="utf-8")
            score = _try(work, dtype)
    except OSError as error:
        if isinstance(error, QSiTError):
            raise
        hint = f"The system says: {error.strerror or error}. What was there before is as it was."
        raise RunError.about("output", str(output), "a place where the model can be written", hint) from error
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return Exported(output, source, fingerprint(output), score, size)


def checkpoint_of(run: Path, which: str | None = None) -> Path:
    """The checkpoint folder that a run's link names, or the given folder if it is a checkpoint itself.

    Raises:
        RunError: There is none, or it was not written by a run.
    """
    which = which or _default(run)
    if which not in ("best", "last"):
        raise RunError.about("which", which, "'best' or 'last'")
    found = run if (run / "config.json").is_file() else run / which
    if not (found / "config.json").is_file():
        hint = "Train first: `python -m train run RECIPE -o FOLDER`."
        raise RunError.about("run", str(run), f"a run's folder with a model in it ({which})", hint)
    if not (found / TRAINING).is_file():
        hint = "A model that no run of this program wrote is published with `hf upload OWNER/REPO FOLDER`."
        raise RunError.about("run", str(run), f"a checkpoint with {TRAINING} beside its weights", hint)
    verify(found, hint="It was damaged after it was written: export another checkpoint of the run.")
    return found.resolve()


def _default(run: Path) -> str:
    """Which model a recipe means: the best of a run to a plateau, the last of one of so many epochs."""
    try:
        fields = load_yaml(run / "recipe.yaml") if (run / "recipe.yaml").is_file() else {}
        return "best" if fields.get("stop", {}).get("patience") else "last"
    except RecipeError:
        return "last"


def _write(source: Path, work: Path, dtype: torch.dtype) -> None:
    """Weights in the wanted type and all other files; loading and saving need no accelerator."""
    model = load_weights(source, Config.load(source), dtype)
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            expected = "weights that the type can hold" if dtype == torch.float16 else "finite weights"
            raise RunError.about("dtype", f"<{name} in {dtype}>", expected, "Export with --dtype bfloat16 or float32.")
    Parts(model, Tokenizer.load(source), load_geometry(source), source, _scoring(source)).save(work)


def _try(work: Path, dtype: str) -> float:
    """Load the folder as a user would, and score a picture with it."""
    hint = "The export was taken back; the run is as it was."
    try:
        verify(work)
        score = float(QSiT(work, dtype=dtype).score(_picture()))
    except QSiTError as error:
        raise RunError(f"`export`: the folder was written, but it cannot be used: {error} {hint}") from error
    if not (math.isfinite(score) and 1 <= score <= 5):
        raise RunError.about("export", score, "a score between 1 and 5 for a test picture", hint)
    return score


def _picture() -> Image.Image:
    """A small colour gradient."""
    from PIL import Image

    ramp = Image.linear_gradient("L").resize((64, 48))
    return Image.merge("RGB", (ramp, ramp.rotate(90, expand=False), ramp.rotate(180)))


def _check_output(output: Path, force: bool) -> None:
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return
    if not force:
        raise RunError.about("output", str(output), "a folder that is not there yet", "Choose another, or use --force.")
    if output.is_symlink() or not (output / "config.json").is_file():
        expected = "the folder of a model, which --force may replace"
        raise RunError.about("output", str(output), expected, "Remove it yourself, or choose another.")
    if (output / TRAINING).is_file() and not (output / "README.md").is_file():
        raise RunError.about("output", str(output), "a folder other than a run's own checkpoint", "Choose another.")


def _scoring(source: Path) -> Recipe:
    found = Recipe.load(source)
    if found is None:
        raise RunError.about("run", str(source), "a checkpoint with its scoring recipe (qsit_recipe.json)")
    return found


def _facts(source: Path) -> dict[str, Any]:
    content: dict[str, Any] = FILES.json(source / TRAINING)
    if not isinstance(content.get("recipe"), dict):
        raise RunError.about("run", str(source / TRAINING), "an object with the run's recipe")
    return content


def _events(run: Path, source: Path) -> list[dict[str, Any]]:
    """The log up to the checkpoint; without a log, nothing."""
    path = next((folder / LOG for folder in (run, source.parent.parent) if (folder / LOG).is_file()), None)
    if path is None:
        return []
    try:
        return [json.loads(line) for line in FILES.text(path).splitlines() if line.strip()]
    except ValueError as error:
        raise RunError.about("run", str(path), "a log with one JSON object in each line", f"{error}.") from error


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
