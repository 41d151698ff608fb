"""Texts: decoded, tokenised, padded by length."""
