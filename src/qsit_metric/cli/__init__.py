"""The command `qsit`: one file per command; `app` says what there is."""

from .app import app, main

__all__ = ["app", "main"]
