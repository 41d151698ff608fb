"""Ray Tune on one side, the study broker on the other: the only code that imports ray."""
