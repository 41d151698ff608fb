"""Hands out work and takes its results: Optuna behind a queue for each label budget."""
