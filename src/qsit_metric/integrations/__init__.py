"""The metric inside other libraries: one module for each host, imported only by who uses it."""
