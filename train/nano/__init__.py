"""`q-sit-nano`: a small model from made pictures alone."""
