"""Cut points of a network, and its split into a frozen prefix and a trained suffix."""
