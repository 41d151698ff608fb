"""The table of files in a model card."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.reading.export.markdown import escaped
from trainable.export.written_model import Written


def file_table(known: Mapping[str, str], written: Written) -> list[str]:
    """Return the lines of a table of files, with what is known of each portable one.

    Args:
        known: what each file is, in Markdown, by its name.
        written: the portable files.
    """
    found = {one.file: one for one in written.portable}
    lines = ["| file | what it is |", "| --- | --- |"]
    for name, text in known.items():
        one = found.get(name)
        if one is None:
            told = text
        elif one.problem is not None:
            told = f"not there: {escaped(one.problem)}"
        elif one.difference is None:
            told = f"{text}; not compared, for nothing here could run it"
        else:
            told = f"{text}; its logits differ by at most {one.difference:.1g}"
        lines.append(f"| `{name}` | {told} |")
    return lines
