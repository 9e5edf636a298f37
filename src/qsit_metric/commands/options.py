"""The former place of `qsit_metric.cli.options`."""

from ..cli.options import DEFAULT, ModelOptions

__all__ = ["DEFAULT", "ModelOptions"]
