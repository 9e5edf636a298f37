"""Silence for other packages' bars, where a command has its own."""

from __future__ import annotations


def silence() -> None:
    """No bars and warnings of transformers from here on."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
