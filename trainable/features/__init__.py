"""Activations of frozen prefixes: computed in batches, and cached on disk where that saves time."""
