"""What messages call examples: the name of a modality is the noun of one of its examples."""

from __future__ import annotations


def an(noun: str) -> str:
    """The noun with its indefinite article: `an image`, `a text`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
