"""Train the best configuration of a sweep once more, and ask the network what pictures show.

    python examples/export_and_predict.py RUN DIR IMAGE...

RUN is a sweep directory, DIR the folder to write. To use what lies in DIR later takes no sweep and
no Ray: `ExportedModel` needs PyTorch, Pillow and the package `trainable`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import orchestrator
from trainable.export.exported_model import ExportedModel


def main(run: str | Path, folder: str | Path, images: Sequence[str | Path]) -> None:
    """Export to the folder, read it back, and print the likeliest class of each image."""
    done = orchestrator.export(run, folder)
    print(f"{done.trial_id}, trained on {done.num_labels} labels: {', '.join(done.files)}")

    model = ExportedModel.load(done.folder)
    for prediction in model.predict([Path(image) for image in images]):
        if prediction.problem is not None:
            print(f"{prediction.path}: {prediction.problem}")
            continue
        number, probability = prediction.ranked()[0]
        print(f"{prediction.path}: {model.about.class_names[number]} ({probability:.0%})")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
