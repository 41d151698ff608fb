"""Confidence intervals and test-set statistics; pure functions of scores."""
