"""Former places of what is in `qsit_metric.cli` now."""
