"""Commands of the training program; each is a thin shell over the package."""
