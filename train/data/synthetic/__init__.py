"""Data that the repository makes itself: photographs and drawings, KADID-10k's degradations, their mean human scores."""
