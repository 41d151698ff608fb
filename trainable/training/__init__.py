"""One trial: the probe, the loop, the learners, the results, and the baselines beside it."""
