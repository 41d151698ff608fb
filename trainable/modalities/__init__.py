"""How bytes become tensors."""
