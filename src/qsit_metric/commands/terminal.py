"""The former place of `qsit_metric.console`."""

from ..console import *  # noqa: F403
