"""The embedded data set of texts: ten of the 77 intents of Banking77, real questions to a bank.

Source: I. Casanueva, T. Temcinas, D. Gerz, M. Henderson, I. Vulic, Efficient Intent Detection with
Dual Sentence Encoders, 2020; by PolyAI, licensed CC BY 4.0 (see `banking_data/LICENSE`). The ten
are those about cards that do not come, card payments and transfers, which are easily confused.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

from orchestrator.datasets.listing import Listing
from orchestrator.datasets.splits import split_of
from orchestrator.datasets.texts import texts_in_memory

FILE = Path(__file__).parent / "banking_data" / "banking.csv.gz"
"""Columns text, label and split; `tools.make_banking` writes it."""

INTENTS = (
    "balance_not_updated_after_bank_transfer",
    "card_arrival",
    "card_delivery_estimate",
    "card_payment_not_recognised",
    "declined_card_payment",
    "failed_transfer",
    "pending_card_payment",
    "pending_transfer",
    "transfer_not_received_by_recipient",
    "transfer_timing",
)
"""The classes."""


def list_texts() -> Listing:
    """All texts, those of the source's own test split in the test split."""
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    contents = texts_in_memory(
        [f"banking/{number:04d}" for number in range(len(rows))], [row["text"] for row in rows]
    )
    return Listing.of(
        paths=contents.paths,
        labels=[row["label"] for row in rows],
        splits=[split for row in rows if (split := split_of(row["split"])) is not None],
        groups=None,
        read=contents.read,
        modality=contents.modality,
    )
