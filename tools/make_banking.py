"""Write the ten intents of Banking77 that `dataset: {source: banking}` reads.

The data set, by PolyAI, lies at https://github.com/PolyAI-LDN/task-specific-datasets:

    python -m tools.make_banking task-specific-datasets/banking_data
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from orchestrator.datasets.banking import FILE, INTENTS

_SPLITS = ("train", "test")


def main() -> None:
    """Read the two files of Banking77 and write the rows of the ten intents."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with train.csv and test.csv")
    content = packed(parser.parse_args().folder)
    FILE.write_bytes(content)
    print(f"{FILE}: {len(content):,} bytes")


def packed(folder: Path) -> bytes:
    """The rows of the ten intents in the order of the source, compressed, with no time in it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["text", "label", "split"])
    writer.writerows(_rows(folder))
    return gzip.compress(text.getvalue().encode(), mtime=0)


def _rows(folder: Path) -> Iterator[tuple[str, str, str]]:
    for split in _SPLITS:
        with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["category"] in INTENTS:
                    yield row["text"], row["category"], split


if __name__ == "__main__":
    main()
