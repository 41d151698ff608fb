from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.text_models import save_text_model


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """The folder of a tiny BERT, for a test to change."""
    pytest.importorskip("transformers")
    return save_text_model(tmp_path / "bert")
