"""Intervals and test sets: pure functions of scores."""
