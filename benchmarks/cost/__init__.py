"""What a score and an answer cost: models of the published shapes, the flows, one clock, one counter, one report."""
