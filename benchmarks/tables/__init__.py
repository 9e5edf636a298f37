"""The tables of the paper, each from the runs that it needs."""
