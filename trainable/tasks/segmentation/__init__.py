"""Semantic segmentation: a label is a mask, the class of each pixel."""
