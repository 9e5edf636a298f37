"""What stands behind each command of `qsit`; `qsit_metric.cli` only names their arguments.

Nothing here is public API, and no module here imports torch before a command runs.
"""
