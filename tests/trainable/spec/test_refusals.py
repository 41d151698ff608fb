"""How messages show what was given."""

import pytest

from trainable.spec.refusals import escaped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("käse.png", "käse.png"),
        ("käse\n\x1b[31m", r"käse\n\x1b[31m"),
        ("\u202egnp", r"\u202egnp"),
        ("\udcff", r"\udcff"),
        ("", ""),
    ],
)
def test_escapes_stand_for_what_is_not_printable_and_for_nothing_else(
    text: str, expected: str
) -> None:
    assert escaped(text) == expected
    assert escaped(text).isprintable()
