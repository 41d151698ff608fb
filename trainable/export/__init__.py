"""A trained network to be used: written, converted, read back."""
