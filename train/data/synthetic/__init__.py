"""Data that the repository makes itself: photographs, drawings, KADID-10k's degradations, mean human scores."""
