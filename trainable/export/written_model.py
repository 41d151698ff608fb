"""Writing of a trained network into a folder, and comparison of each written form with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from trainable.export.exchange_formats import (
    ExchangeForms,
    check_logits,
    onnx_notes,
    write_portable,
)
from trainable.export.model_config import ABOUT_FILE
from trainable.export.network_kinds import LibraryForm, network_kind
from trainable.export.trained_model import TrainedModel


@dataclass(frozen=True, kw_only=True)
class Written:
    """Files that were written, and how they can be loaded.

    Attributes:
        library: how the library that the network comes from takes the weights.
        portable: the files that do not need the network's code.
    """

    library: LibraryForm
    portable: tuple[ExchangeForms, ...]

    def has(self, file: str) -> bool:
        """Return whether a portable file was written."""
        return any(one.file == file and one.problem is None for one in self.portable)


def write_model(model: TrainedModel, folder: Path) -> Written:
    """Write the network into an empty folder and check that it can be read back.

    Raises:
        ExportError: the written network gives other logits than the trained one, or it cannot be
            written.
        BackboneError: a file of the pretrained backbone is gone.
        OSError: the folder cannot be written.
    """
    about, kind = model.about, network_kind(model.about.modality)
    text = json.dumps(about.to_json(), indent=2, ensure_ascii=False)
    (folder / ABOUT_FILE).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    library = kind.write(model, folder)
    again = kind.load(about, folder)
    with torch.no_grad():
        for batch in model.batches:
            expected = model.network(*batch)
            check_logits(again(*batch), expected, backbone=about.backbone, what="read back")
    preprocessing = asdict(about.preprocessing)
    if about.value_range is not None:
        preprocessing["value_range"] = about.value_range
    notes = onnx_notes(class_names=list(about.class_names), preprocessing=preprocessing)
    portable = write_portable(model.network, model.batches, folder, inputs=kind.inputs, about=notes)
    return Written(library=library, portable=tuple(portable))
