"""Labelled images as bytes, nested subsets of their labels, folds."""
