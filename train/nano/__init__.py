"""`q-sit-nano`: the embedded model, from made pictures to the wheel."""
