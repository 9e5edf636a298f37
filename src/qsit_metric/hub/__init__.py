"""The Hub: a model's name or a data set's repository -> verified files on disk; see `resolve.resolve`."""

from .cache import Stored, on_disk
from .check import fingerprint, verify
from .resolve import Checkpoint, resolve

__all__ = ["Checkpoint", "Stored", "fingerprint", "on_disk", "resolve", "verify"]
