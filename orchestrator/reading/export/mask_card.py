"""What the card of a network that predicts masks says of its own."""

from __future__ import annotations

from orchestrator.reading.export.card_kinds import CardKind
from orchestrator.reading.export.image_card import ImageCard
from orchestrator.reading.export.use import mask_use_lines
from trainable.export.model_config import ModelConfig
from trainable.export.written_model import Written


class _Masks(ImageCard):
    """See `CardKind`."""

    pipeline = "image-segmentation"
    does = "gives every pixel of an image one of"
    usage = "IMAGE... -o FOLDER"

    def use(self, about: ModelConfig, written: Written) -> list[str]:
        """Return the lines about the use of the network."""
        return mask_use_lines(about, written)


MASKS: CardKind = _Masks()
