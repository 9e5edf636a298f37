"""The small model on photographs that it has never seen; see `python -m benchmarks.nano --help`."""
