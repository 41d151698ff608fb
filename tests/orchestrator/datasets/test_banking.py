import csv
import gzip
import hashlib
from pathlib import Path

import numpy as np

from orchestrator.datasets import banking
from orchestrator.datasets.sections import BankingSection
from tests.orchestrator.datasets.conftest import dataset_of
from tools.make_banking import packed
from trainable.data.labelled_examples import Split


def test_banking_holds_ten_intents_with_the_sources_own_test_split() -> None:
    found = dataset_of(BankingSection()).images
    assert found.modality == "text"
    assert found.class_names == tuple(sorted(banking.INTENTS))
    assert len(found) == 1_900
    assert np.bincount(found.labels[found.split == Split.TEST]).tolist() == [40] * 10
    assert not (found.split == Split.VAL).any()
    assert found.encoded(0) == b"I am still waiting on my card?"


def test_a_share_of_banking_can_be_drawn_for_the_test() -> None:
    found = dataset_of(BankingSection(test=0.5), seed=3).images
    assert 850 < (found.split == Split.TEST).sum() < 1_050


def test_what_is_shipped_is_small_and_says_where_it_is_from() -> None:
    assert banking.FILE.stat().st_size < 40_000
    folder = banking.FILE.parent
    assert "Attribution 4.0 International" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert "PolyAI" in (folder / "ATTRIBUTION.txt").read_text(encoding="utf-8")


def test_the_texts_never_change() -> None:
    content = gzip.decompress(banking.FILE.read_bytes())
    assert hashlib.sha256(content).hexdigest() == (
        "7325d84765759288247061d5499c92099d11d4aa291295dabc119198f2e7e5df"
    )


def test_the_tool_keeps_the_rows_of_the_ten_intents_in_order(tmp_path: Path) -> None:
    for split in ("train", "test"):
        with (tmp_path / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "category"])
            writer.writerows([("Where, then?", "card_arrival"), ("How?", "age_limit")])
    content = packed(tmp_path)
    assert content == packed(tmp_path)
    assert gzip.decompress(content).decode().splitlines() == [
        "text,label,split",
        '"Where, then?",card_arrival,train',
        '"Where, then?",card_arrival,test',
    ]
