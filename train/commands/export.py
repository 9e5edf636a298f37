"""`python -m train export`: a run's model as a folder to publish. Thin shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from qsit_metric import console


def export_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one of its checkpoints.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder to write.")],
    which: Annotated[
        Literal["best", "last"] | None,
        typer.Option("--which", help="Which of the run's models; default: best if it stops at a plateau, else last."),
    ] = None,
    dtype: Annotated[
        Literal["float16", "bfloat16", "float32"], typer.Option("--dtype", help="Type of the weights.")
    ] = "bfloat16",
    push: Annotated[str | None, typer.Option("--push", metavar="OWNER/REPO", help="Upload it to the Hub.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    token: Annotated[str | None, typer.Option("--token", help="Hub token (default: HF_TOKEN, saved login).")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Licence of the weights; needed for --push.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an exported folder that is there.")] = False,
) -> None:
    """Write a run's model as a transformers folder with a model card, try it, and perhaps push it to the Hub."""
    from ..export import check_target, export
    from ..export import push as upload

    if push is not None:
        check_target(push, token, licence)
    done = export(run, output, which=which, dtype=dtype, licence=licence, force=force)
    console.say(f"wrote {done.folder} ({done.size / 1e6:.1f} MB, {done.fingerprint}) from {done.source}")
    console.say(f"tried with QSiT: the test picture scores {done.score:.3f}")
    if push is not None:
        console.say(f"pushed {upload(done.folder, push, private=private, token=token)}")
