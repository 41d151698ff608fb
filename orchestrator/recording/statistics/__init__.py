"""Confidence intervals of scores on a test set; pure functions."""
