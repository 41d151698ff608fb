"""The metadata at the top of a model card, which the Hugging Face Hub reads."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.reading.export.card import Card
from orchestrator.reading.export.card_kinds import card_kind
from trainable.export.written_model import Written

_LICENCES = frozenset(
    {
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "isc"),
        *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "unlicense"),
        *("gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "openrail", "bigscience-openrail-m"),
        *("gemma", "llama2", "llama3", "afl-3.0"),
    }
)
"""Licences by the names that the Hub knows; it refuses cards with others."""


def front_matter(card: Card, written: Written) -> list[str]:
    """Return the lines of a block of YAML; values are JSON, which YAML contains."""
    kind = card_kind(card.model.about)
    licence = (card.weights.licence or "").lower()
    values: dict[str, Any] = {
        "license": licence if licence in _LICENCES else None,
        "base_model": kind.base_model(card.weights),
        "pipeline_tag": kind.pipeline,
        "library_name": kind.library(written),
        "tags": ["sft-sweep"],
    }
    told = (f"{name}: {json.dumps(value)}" for name, value in values.items() if value)
    return ["---", *told, "---"]
