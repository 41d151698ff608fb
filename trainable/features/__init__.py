"""Activations of frozen prefixes: computed, cached where that saves time, stored."""
