"""What the card of a network for images says of its own."""

from __future__ import annotations

from orchestrator.reading.export.card_kinds import CardKind
from orchestrator.reading.export.markdown import escaped
from orchestrator.reading.export.use import use_lines
from trainable.backbones import Weights
from trainable.export.model_config import ModelConfig
from trainable.export.written_model import Written


class ImageCard:
    """See `CardKind`."""

    pipeline = "image-classification"
    does = "sorts images into"
    usage = "IMAGE..."
    packages: tuple[str, ...] = ("torch", "torchvision", "numpy", "pillow")

    def library(self, written: Written) -> str:
        """Return PyTorch."""
        del written
        return "pytorch"

    def base_model(self, weights: Weights) -> str | None:
        """Return nothing: weights are known by the names of their libraries."""
        del weights
        return None

    def use(self, about: ModelConfig, written: Written) -> list[str]:
        """Return the lines about the use of the network."""
        return use_lines(about, written)

    def facts(self, about: ModelConfig) -> list[tuple[str, object]]:
        """Return size and form of the network."""
        size = about.image_preprocessing.image_size
        facts: list[tuple[str, object]] = [("input", f"RGB, {size} x {size} pixels")]
        if about.bare_logits:
            facts.append(("left out", "what the network's own code computes behind its classifier"))
        return facts

    def preprocessing(self, about: ModelConfig) -> list[str]:
        """Return the steps from a picture to the network's input."""
        how, value_range = about.image_preprocessing, about.value_range
        resize = (
            f"Resize to {how.resize_size} x {how.resize_size} pixels"
            if how.squash
            else f"Resize the shorter side to {how.resize_size} pixels"
        )
        grey = (
            ""
            if value_range is None
            else f" 16-bit grey becomes 8 bits before: {value_range[0]:,} is black, "
            f"{value_range[1]:,} is white, and what lies beyond is cut off."
        )
        return [
            "1. Turn the picture upright (EXIF), lay transparent ones on white, convert to RGB."
            f"{grey}",
            f"2. {resize}, {escaped(how.interpolation)}, with antialiasing.",
            f"3. Cut out the centre, {how.image_size} x {how.image_size} pixels.",
            f"4. Scale to 0..1, subtract {list(how.mean)}, divide by {list(how.std)}, by channel.",
        ]


IMAGE: CardKind = ImageCard()
