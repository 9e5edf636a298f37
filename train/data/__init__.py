"""Training data: readers of the published formats, builders, cleaning, splitting and freezing."""
