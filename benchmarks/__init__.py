"""Measurements that are repeated by hand, not tests: run them from a checkout as `python -m benchmarks.NAME --help`."""
