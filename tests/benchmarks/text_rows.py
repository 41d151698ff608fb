"""How many tokens are computed for each token of a text, padding and filled passes included.

    python -m tests.benchmarks.text_rows MODEL [--table FILE.csv --text-column text
        --label-column label] [--draws 50] [--quick]

MODEL is a folder or a name on the hub, as behind `transformers:`; its tokenizer counts, and nothing
is computed with it. Texts are the shipped questions, or those of a table. Each row of the table is
of draws of so many texts, whose features are read at once, as those of a label budget are.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np

from orchestrator.datasets.sections import BankingSection, TableSection
from orchestrator.space import DatasetSection
from tests.builders.counted_rows import computed_of
from tests.builders.prepared import load_images
from tests.builders.text_models import save_text_model
from trainable.backbones import Backbone, load_weights
from trainable.modalities import modality_of

TARGET = 1.45
DRAWN = (20, 50, 100, 400, 1000)


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", help="folder, or name on the hub")
    parser.add_argument("--table", metavar="FILE")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="a tiny model, few draws")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.quick:
            given.draws, given.model = 2, str(save_text_model(Path(folder) / "model"))
        elif given.model is None:
            parser.error("name a model, or take --quick")
        show(given)


def show(given: argparse.Namespace) -> None:
    """Print the table of what the arguments ask for."""
    section: DatasetSection = BankingSection()
    if given.table:
        section = TableSection(
            path=given.table, text_column=given.text_column, label_column=given.label_column
        )
    texts = load_images(section, seed=0)
    backbone = Backbone(load_weights(f"transformers:{given.model}"))
    modality = modality_of(texts, backbone.weights)
    size = modality.size(backbone.weights, "auto")
    for note in modality.prepare(texts, backbone, size):
        print(note)
    draw, read = np.random.default_rng(0), np.flatnonzero(texts.is_read())
    print("\n| texts | tokens of a text | passes a text | computed to real, mean | most | target |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in (*(one for one in DRAWN if one < len(read)), len(read)):
        draws = given.draws if count < len(read) else 1
        some = [draw.choice(read, count, replace=False) for _ in range(draws)]
        found = [computed_of(texts, backbone, indices, size=size) for indices in some]
        ratios = [computed.tokens / real for computed, real in found]
        print(
            f"| {count} | {statistics.mean(real for _, real in found) / count:.1f} "
            f"| {statistics.mean(computed.passes for computed, _ in found) / count:.2f} "
            f"| {statistics.mean(ratios):.2f} | {max(ratios):.2f} | {TARGET} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
