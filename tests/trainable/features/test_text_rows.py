"""How much is computed of texts of real lengths, padding and rows that fill up a pass included."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from torch import nn

from tests.builders.counted_rows import computed_of
from tests.trainable.small_text import WIDTH, SmallText, small_text
from trainable.backbones import Backbone, Weights
from trainable.backbones.graphs.exporting import export
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.backbones.weights import TextPreprocessing
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.tokens import TokenTable
from trainable.modalities.text.buckets import bucket_lengths, texts_a_pass

MOST = 1.45
LONGEST = 256
QUESTIONS = (
    "4:3 5:15 6:48 7:124 8:349 9:680 10:865 11:966 12:1036 13:991 14:818 15:693 16:561 17:405 "
    "18:314 19:259 20:184 21:148 22:127 23:99 24:93 25:72 26:83 27:65 28:63 29:95 30:42 31:47 "
    "32:57 33:50 34:57 35:46 36:46 37:37 38:38 39:41 40:41 41:22 42:22 43:29 44:28 45:25 46:26 "
    "47:28 48:18 49:14 50:11 51:13 52:6 53:10 54:8 55:15 56:4 57:6 58:8 59:5 60:3 61:4 62:7 64:3 "
    "65:2 66:5 67:2 68:1 69:1 70:2 71:1 72:1 73:5 74:1 77:1 79:2 80:1 81:1 83:1 87:1 93:1 98:1"
)
"""Numbers of tokens, and how many of the 10,003 training texts of Banking77 have so many with the
tokenizer of MiniLM."""


def questions() -> npt.NDArray[np.int64]:
    pairs = [tuple(map(int, pair.split(":"))) for pair in QUESTIONS.split()]
    lengths, counts = zip(*pairs, strict=True)
    return np.repeat(lengths, counts)


def articles() -> npt.NDArray[np.int64]:
    """Long texts: half of them longer than what is kept, a few of a line."""
    drawn = np.random.default_rng(0).lognormal(np.log(LONGEST), 0.6, 2000)
    return np.clip(drawn, 8, LONGEST).astype(np.int64)


class LongText(SmallText):
    """With positions for the longest text."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(LONGEST, WIDTH)


@pytest.fixture(scope="module")
def network() -> TracedBackbone:
    return export(small_text(LongText), size=LONGEST)


def texts_of(
    lengths: npt.NDArray[np.int64], network: TracedBackbone
) -> tuple[LabelledExamples, Backbone]:
    """Texts of so many tokens each, and a network that has read them."""
    names = [b"%d" % number for number in range(len(lengths))]
    texts = LabelledExamples.from_bytes(
        names,
        labels=np.zeros(len(names)),
        split=np.full(len(names), Split.POOL),
        class_names=("one",),
        paths=[name.decode() for name in names],
        modality="text",
    )
    how = TextPreprocessing(
        max_length=LONGEST, tokenizer="0" * 64, pad_id=0, pooling="mean", normalize=False, prompt=""
    )
    weights = Weights(
        backbone="small",
        source="small",
        architecture="small",
        version="1",
        preprocessing=how,
        arrays={},
        digest="0",
        modality="text",
    )
    table = TokenTable.of(
        [np.ones(length, np.int32) for length in lengths],
        digests=[hashlib.sha256(name).digest() for name in names],
        pad_id=0,
    )
    backbone = Backbone(weights, tokens={how.before_pooling(LONGEST): table})
    backbone._traced[backbone._form(LONGEST)] = network
    return texts, backbone


@pytest.mark.parametrize("lengths", [questions(), articles()], ids=["questions", "articles"])
def test_at_most_1_45_tokens_are_computed_for_each_of_few_texts_or_many(
    lengths: npt.NDArray[np.int64], network: TracedBackbone
) -> None:
    drawn = np.random.default_rng(1).permutation(lengths)[:2000]
    texts, backbone = texts_of(drawn, network)
    for count in (20, 50, 100, 400, 2000):
        parts = np.arange(2000).reshape(-1, count)[:20]
        found = [computed_of(texts, backbone, part, size=LONGEST) for part in parts]
        computed = sum(one.tokens for one, _ in found)
        assert sum(real for _, real in found) < computed
        assert computed < MOST * sum(real for _, real in found), count


def test_passes_are_full_where_many_texts_share_a_length(network: TracedBackbone) -> None:
    for length in bucket_lengths(LONGEST):
        texts, backbone = texts_of(np.full(240, length), network)
        computed, real = computed_of(texts, backbone, np.arange(240), size=LONGEST)
        assert computed.tokens == real
        assert computed.passes == 240 / texts_a_pass(length)
