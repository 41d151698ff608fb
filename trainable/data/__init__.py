"""Labelled examples as encoded bytes, nested labelled subsets, folds, and tokens of texts."""
