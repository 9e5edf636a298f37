"""The commands of `python -m benchmarks`: they read options, call the modules beside them, and write files."""
