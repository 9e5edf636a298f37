"""A model's name -> a verified folder on disk; see `resolving.resolve`."""

from .fingerprint import fingerprint
from .resolving import Checkpoint, Stored, on_disk, resolve, verify

__all__ = ["Checkpoint", "Stored", "fingerprint", "on_disk", "resolve", "verify"]
