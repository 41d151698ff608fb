"""Texts: how bytes become tokens, and what is computed from words alone."""
