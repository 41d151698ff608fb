"""Pretraining of the shipped backbones on generated images; their weights lie in the package."""
