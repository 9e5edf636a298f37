"""Engines that run a checkpoint; see `base.Backend` for what one must answer and `registry` for how one is found."""
