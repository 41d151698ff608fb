"""What the card of a network for texts says of its own."""

from __future__ import annotations

from orchestrator.reading.export.card_kinds import CardKind
from orchestrator.reading.export.markdown import escaped
from orchestrator.reading.export.text_use import use_lines
from trainable.backbones import Weights, transformers_models
from trainable.export.model_config import ModelConfig
from trainable.export.written_model import Written

_POOLED = {
    "mean": "the mean of the vectors of its tokens",
    "cls": "the vector of its first token",
    "last": "the vector of its last token",
    "max": "the largest value of each feature over its tokens",
}


class _Text:
    """See `CardKind`."""

    pipeline = "text-classification"
    does = "sorts texts into"
    usage = "TEXT..."
    packages: tuple[str, ...] = ("torch", "numpy", "tokenizers", "transformers")

    def library(self, written: Written) -> str:
        """Return transformers where it loads the encoder, else PyTorch."""
        return "pytorch" if written.library.options is None else "transformers"

    def base_model(self, weights: Weights) -> str | None:
        """Return the model's name on the hub, unless it came from a folder."""
        return transformers_models.repository_of(weights)

    def use(self, about: ModelConfig, written: Written) -> list[str]:
        """Return the lines about the use of the network."""
        return use_lines(about, written)

    def facts(self, about: ModelConfig) -> list[tuple[str, object]]:
        """Return length and form of the network."""
        how = about.text_preprocessing
        facts: list[tuple[str, object]] = [("input", f"texts of at most {how.max_length} tokens")]
        if about.on_both_sides:
            facts.append(
                (
                    "parameters with two values, one in the frozen part and one in the trained",
                    ", ".join(about.on_both_sides),
                )
            )
        return facts

    def preprocessing(self, about: ModelConfig) -> list[str]:
        """Return the steps from a text to what reaches the classifier."""
        how = about.text_preprocessing
        before = f"Put the prompt {escaped(repr(how.prompt))} before it. " if how.prompt else ""
        lower = " and put it in lower case" if how.lowercase else ""
        kept = {"head": "the beginning", "head_tail": "the beginning and the end"}[how.truncate]
        divided = ", divided by its length" if how.normalize else ""
        return [
            f"1. {before}Take white space off both ends of the text{lower}.",
            f"2. Tokenise it with `tokenizer.json` (SHA-256 {how.tokenizer}). Of a text with more "
            f"than {how.max_length} tokens keep {kept}, and all special tokens.",
            f"3. In a batch, fill up shorter texts on their right with token {how.pad_id}, and "
            "tell the network by a mask: 1 for tokens, 0 for padding.",
            f"4. What reaches the classifier of a text is {_POOLED[how.pooling]}{divided}.",
        ]


TEXT: CardKind = _Text()
